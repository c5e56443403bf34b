// The main job by the client that @hey-api/openapi-ts makes of our spec: URL KEY CSV as arguments.
// Prints what came of it as one JSON object. The compiler checks it too: nothing here is cast.

import { readFileSync } from 'node:fs';

import {
  createDataset,
  createDatasetVersion,
  createModel,
  createPrediction,
  createTrainingRun,
  getDatasetVersion,
  getModelAlias,
  getPrediction,
  getTrainingRun,
  listDatasets,
  predict,
  putModelAlias,
} from './client';
import type {
  CreateDatasetVersionErrors,
  CreateDatasetVersionResponses,
  PredictIn,
  Problem,
  TrainingRunOut,
  VersionOut,
} from './client';
import { client } from './client/client.gen';

const throwOnError = true;
const penguins = { dataset: 'penguins' };
const row = {
  island: 'Biscoe',
  bill_length_mm: 48.4,
  bill_depth_mm: 14.6,
  flipper_length_mm: 213,
  body_mass_g: 5850,
  sex: null,
  year: 2007,
};

// Version 1 as a form, version 2 as raw bytes; the latter once it is ready.
async function upload(csv: string): Promise<VersionOut> {
  const file = new File([csv], 'penguins.csv', { type: 'text/csv' });
  await createDatasetVersion({ path: penguins, body: { file }, throwOnError });
  const raw = await client.post<CreateDatasetVersionResponses, CreateDatasetVersionErrors, true>({
    url: '/api/v1/datasets/{dataset}/versions',
    path: penguins,
    body: file,
    bodySerializer: null,
    headers: { 'Content-Type': 'text/csv', Prefer: 'respond-async' },
    security: [{ scheme: 'bearer', type: 'http' }],
    throwOnError,
  });
  let version = raw.data;
  while (version.state === 'queued' || version.state === 'running') {
    const path = { ...penguins, version: version.version };
    version = (await getDatasetVersion({ path, query: { wait: 20 }, throwOnError })).data;
  }
  return version;
}

// A run that makes the model's next version, once it has ended.
async function train(): Promise<TrainingRunOut> {
  const body = { model: 'penguins', dataset: 'penguins', target: 'species' };
  const accepted = (await createTrainingRun({ body, throwOnError })).data;
  if (!('state' in accepted)) {
    throw new Error('this is the plan that `validate_only` asks for');
  }
  let run: TrainingRunOut = accepted;
  while (!['succeeded', 'failed', 'cancelled'].includes(run.state)) {
    run = (await getTrainingRun({ path: { run: run.id }, query: { wait: 20 }, throwOnError })).data;
  }
  return run;
}

// The statuses of two moves by the same ETag: the first one is made, the second is too late.
async function moveAlias(): Promise<number[]> {
  const path = { model: 'penguins', alias: 'champion' };
  await putModelAlias({ path, body: { version: 1 }, throwOnError });
  const told = await getModelAlias({ path, throwOnError });
  const headers = { 'If-Match': told.response.headers.get('ETag') ?? '' };
  const first = await putModelAlias({ path, headers, body: { version: 2 } });
  const second = await putModelAlias({ path, headers, body: { version: 2 } });
  return [first.response?.status ?? 0, second.response?.status ?? 0];
}

// The names of all datasets, read in pages of two.
async function datasetNames(): Promise<string[]> {
  for (const name of ['empty-0', 'empty-1', 'empty-2']) {
    await createDataset({ body: { name }, throwOnError });
  }
  const names: string[] = [];
  let page_token: string | undefined;
  do {
    const query = { page_size: 2, page_token };
    const page = (await listDatasets({ query, throwOnError })).data;
    names.push(...page.items.map((dataset) => dataset.name));
    page_token = page.next_page_token ?? undefined;
  } while (page_token !== undefined);
  return names;
}

// What is told of a row with a text where a number belongs.
async function refusal(): Promise<Problem> {
  const body: PredictIn = { inputs: [{ ...row, body_mass_g: 'heavy' }] };
  const { error } = await predict({ path: { model: 'penguins' }, body });
  if (error === undefined) {
    throw new Error('it was not refused');
  }
  return error;
}

async function main(url: string, key: string, csv: string): Promise<object> {
  client.setConfig({ baseUrl: url, auth: key });
  await createDataset({ body: { name: 'penguins' }, throwOnError });
  const version = await upload(csv);
  await createModel({ body: { name: 'penguins' }, throwOnError });
  const runs = [await train(), await train()];
  const moves = await moveAlias();

  const body: PredictIn = { inputs: [row] };
  const answered = (await predict({ path: { model: 'penguins' }, body, throwOnError })).data;
  const kept = { model: 'penguins', inputs: [row] };
  const stored = (await createPrediction({ body: kept, throwOnError })).data;
  const read = (await getPrediction({ path: { prediction: stored.id }, throwOnError })).data;

  const problem = await refusal();
  return {
    version: [version.version, version.state, version.rows],
    runs: runs.map((run) => [run.state, run.model_version]),
    accuracy: runs[0]?.metrics?.accuracy,
    moves,
    predicted: [answered.version, answered.outputs.map((output) => output.label)],
    stored: stored.id,
    read_back: JSON.stringify(stored) === JSON.stringify(read),
    names: await datasetNames(),
    problem: [problem.status, (problem.errors ?? []).map((fault) => fault.pointer)],
  };
}

const [url = '', key = '', path = ''] = process.argv.slice(2);
main(url, key, readFileSync(path, 'utf8')).then(
  (told) => console.log(JSON.stringify(told)),
  (failure) => {
    console.error(failure);
    process.exitCode = 1;
  },
);
