"""A yard that trains: a table in the store, a datasets port that holds it, and a real worker."""

import threading
from contextlib import contextmanager

import duckdb

from app.kernel.errors import Conflict, NotFound
from app.kernel.jobs.worker import Worker
from app.roles import job_kinds, job_queues
from app.settings_table import SERVICES
from app.training.ports import HeldDataset
from tests.models.modelyard import Modelyard

PATH = "/api/v1/training-runs"
TYPES = {"mass": "number", "island": "string", "when": "datetime", "species": "string"}
ROWS = """
    SELECT 3000 + (i * 37) % 2000 AS mass,
           ['Biscoe', 'Dream', 'Torgersen'][i % 3 + 1] AS island,
           TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR AS when,
           CASE WHEN 3000 + (i * 37) % 2000 > 4000 THEN 'heavy' ELSE 'light' END AS species
    FROM range({rows}) AS numbers(i)
"""


class Held:
    """The datasets service as training sees it, with ``penguins`` and the large ``many``."""

    def __init__(self, yard):
        self.versions = {}
        for name, rows in (("penguins", 200), ("many", 60_000)):
            parquet = yard.settings.home / f"{name}.parquet"
            query = f"COPY ({ROWS.format(rows=rows)}) TO '{parquet}' (FORMAT parquet)"
            duckdb.sql(query)
            stored = yard.wiring.store.put(f"default/datasets/{name}.parquet", parquet)
            storage = {"key": stored.key, "digest": stored.digest, "bytes": stored.bytes}
            columns = [{"name": column, "type": kind} for column, kind in TYPES.items()]
            self.versions[name] = HeldDataset(name, 1, "sha-256:0", rows, columns, storage)
        self.holders, self.released = [], []

    def hold(self, call, dataset, version, *, holder, seconds):
        """As the port says."""
        if dataset == "deleting":
            raise Conflict("It is being deleted")
        if dataset not in self.versions or version not in (None, 1):
            raise NotFound(f"There is no dataset {dataset}")
        self.holders.append(holder)
        return self.versions[dataset]

    def release(self, call, held, *, holder):
        """As the port says."""
        self.released.append(holder)


@contextmanager
def working(wiring, sandbox, *, slots=2, **options):
    """A worker for all kinds of jobs, in a thread."""
    kinds = job_kinds(wiring, sandbox)
    worker = Worker(
        job_queues(wiring),
        {kind: handled.handle for kind, handled in kinds.items()},
        lambda job, error: kinds[job.kind].on_failure(job, error),
        slots=slots,
        poll=0.05,
        **options,
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.drain()
        thread.join()


class Running(Modelyard):
    """All services over a fresh database; ``working`` has its jobs done."""

    def __init__(self, home, database_url="", **settings):
        super().__init__(home, database_url, services=SERVICES, **settings)
        self.settings.home.mkdir(exist_ok=True, parents=True)
        self.datasets = Held(self)
        self.wiring.training._datasets = self.datasets

    def submit(self, *, headers=None, query="", **wanted):
        """Ask for a run."""
        body = {"model": "penguins", "dataset": "penguins", "target": "species", **wanted}
        return self.client().post(PATH + query, json=body, headers=headers or {})

    def working(self, sandbox, **options):
        """A worker in a thread."""
        return working(self.wiring, sandbox, **options)

    def ended(self, answer, seconds=60):
        """The run of an accepted request, once it has ended."""
        assert answer.status_code == 202, answer.text
        for _ in range(seconds // 5):
            run = self.client().get(f"{answer.headers['Location']}?wait=5").json
            if run["state"] in ("succeeded", "failed", "cancelled"):
                return run
        raise AssertionError(run)
