"""A third of a million rows over HTTP: every format in, two models, all their answers out."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from tests.acceptance.flights import ROWS, differences, in_every_format, late_flights
from tests.acceptance.memory import PROMISED, Peak
from tests.server import NO_PROCESSORS, Server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]
# Summed in another order, or by another reader, these differ in the last digits.
ROUNDED = ("mean", "std")
PARQUET = "application/vnd.apache.parquet"
ESTIMATORS = {"boosted": "HistGradientBoostingClassifier", "logistic": "LogisticRegression"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("flights"), NO_PROCESSORS) as running:
        yield running


def told(name, started, peak):
    print(f"{name}: {time.monotonic() - started:.1f} s, {peak.most / 1e6:.0f} MB")  # noqa: T201


def uploaded(client, dataset, sent):
    with sent.path.open("rb") as content:
        made = client.post(
            f"/datasets/{dataset}/versions",
            content=content,
            headers={**sent.headers, "Content-Length": str(sent.path.stat().st_size)},
            timeout=300,
        )
    assert made.status_code == 201, made.text
    return made.json()


def assert_same_profile(version, reference):
    for column, expected in zip(version["columns"], reference["columns"], strict=True):
        exact = {key: value for key, value in column.items() if key not in ROUNDED}
        assert exact == {key: expected[key] for key in exact}
        for key in ROUNDED:
            assert (column[key] is None) == (expected[key] is None)
            if column[key] is not None:
                assert math.isclose(column[key], expected[key], rel_tol=1e-9)


def assert_true_profile(version, path):
    """Against what DuckDB tells of the file itself."""
    for column in version["columns"]:
        name, keys = column["name"], ["missing", "distinct"]
        figures = f"count(*) - count({name}), count(DISTINCT {name})"
        if column["type"] != "datetime":
            keys += ["min", "max"]
            figures += f", min({name}), max({name})"
        truth = duckdb.sql(f"SELECT {figures} FROM '{path}'").fetchall()[0]
        assert tuple(column[key] for key in keys) == truth


def test_one_table_has_one_content_and_one_profile_in_every_format(server, tmp_path):
    sent = in_every_format(tmp_path)
    versions = {}
    with server.client() as client, Peak(server) as peak:
        assert client.post("/datasets", json={"name": "flights"}).status_code == 201
        for name, file in sent.items():
            started = time.monotonic()
            versions[name] = uploaded(client, "flights", file)
            told(name, started, peak)

    reference = versions["csv"]
    assert (reference["rows"], len(reference["columns"])) == (ROWS, 19)
    assert_true_profile(reference, sent["parquet"].path)
    assert {version["digest"] for version in versions.values()} == {reference["digest"]}
    for version in versions.values():
        assert_same_profile(version, reference)
    assert peak.most < PROMISED


def accepted(answer):
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"].removeprefix("/api/v1")


def trained(client):
    """The runs of both estimators, judged by the last fifth of the year."""
    validation = {"method": "time_split", "column": "time_hour", "test_fraction": 0.2}
    body = {"dataset": "late", "target": "late", "validation": validation, "random_state": 7}
    runs = [
        accepted(
            client.post(
                "/training-runs", json={**body, "model": model, "estimator": {"name": estimator}}
            )
        )
        for model, estimator in ESTIMATORS.items()
    ]
    return [wait_for(client, run, seconds=300) for run in runs]


def assert_learnt(run):
    assert run["state"] == "succeeded", run["error"]
    assert run["report"]["validation"]["cut"].startswith("2013-10-")
    assert run["metrics"]["roc_auc"] > 0.85 > run["baseline"]["roc_auc"]
    assert run["metrics"]["log_loss"] < 0.35 < run["baseline"]["log_loss"]
    codes = {warning["code"] for warning in run["warnings"]}
    assert "rows_without_target" in codes


def row_with(**changes):
    """A plane that left on time, with some of its columns changed."""
    row = {"dep_delay": 0, "day": 30, "sched_dep_time": 1200, "sched_arr_time": 1500}
    row |= {"carrier": "UA", "flight": 1545, "tailnum": "N14228", "origin": "EWR", "dest": "IAH"}
    row |= {"distance": 1400, "hour": 12, "minute": 0, "time_hour": "2013-12-30T17:00:00Z"}
    return {**row, **changes}


def assert_sane(client, model):
    changes = [
        {"dep_delay": -10},
        {"dep_delay": 180},
        {"carrier": "ZZ", "dest": "Ünseen", "tailnum": "N0NE"},
        {"tailnum": None, "dep_delay": None},
    ]
    inputs = [row_with(**change) for change in changes]
    answer = client.post(f"/models/{model}/predict", json={"inputs": inputs})
    assert (answer.status_code, answer.json()["engine"]) == (200, "compiled"), answer.text
    shares = [row["probabilities"]["true"] for row in answer.json()["outputs"]]
    assert (shares[0] < 0.15, shares[1] > 0.9) == (True, True)
    for row, share in zip(answer.json()["outputs"], shares, strict=True):
        assert math.isclose(row["probabilities"]["false"] + share, 1.0)
        assert (0 < share < 1, row["label"]) == (True, share > 0.5)


def downloaded(client, batch, folder):
    """The content as Parquet and as CSV; how DuckDB reads each."""
    names = {PARQUET: f"{batch['model']}.parquet", "text/csv": f"{batch['model']}.csv"}
    for accept, name in names.items():
        with client.stream(
            "GET", f"/batch-predictions/{batch['id']}/content", headers={"Accept": accept}
        ) as answer:
            assert answer.status_code == 200
            (folder / name).write_bytes(answer.read())
    parquet = f"'{folder / names[PARQUET]}'"
    types = {name: kind for name, kind, *_ in duckdb.sql(f"DESCRIBE FROM {parquet}").fetchall()}
    return parquet, f"read_csv('{folder / names['text/csv']}', columns = {types})", list(types)


def assert_same_alone(client, batch, parquet):
    """Rows from all over the table, asked for together and one by one."""
    inputs = client.get(f"/models/{batch['model']}/versions/1").json()["signature"]["inputs"]
    names = [column["name"] for column in inputs]
    picked = ", ".join(f"r.{name}" for name in names).replace(
        "r.time_hour", "strftime(make_timestamp(epoch_us(r.time_hour)), '%Y-%m-%dT%H:%M:%SZ')"
    )
    query = f"""
        SELECT {picked}, r.prediction, r.probability_true
        FROM read_parquet({parquet}, file_row_number = true) AS r
        WHERE r.file_row_number % 1000 = 7 OR (dep_delay IS NULL AND file_row_number % 100 = 0)
    """
    found = duckdb.sql(query).fetchall()
    body = {"columns": names, "rows": [row[:-2] for row in found]}
    path = f"/models/{batch['model']}/predict"
    together = client.post(path, json=body).json()["outputs"]
    with ThreadPoolExecutor(4) as pool:
        alone = pool.map(lambda row: client.post(path, json={**body, "rows": [row]}), body["rows"])
    for row, one, other in zip(found, together, alone, strict=True):
        single = other.json()["outputs"][0]
        assert one["label"] == single["label"] == row[-2]
        assert abs(one["probabilities"]["true"] - row[-1]) <= 1e-12
        assert abs(single["probabilities"]["true"] - row[-1]) <= 1e-12
    assert sum(row[names.index("dep_delay")] is None for row in found) > 50


def assert_batch(client, model, table, folder):
    asked = accepted(client.post("/batch-predictions", json={"model": model, "dataset": "late"}))
    batch = wait_for(client, asked, seconds=300)
    assert (batch["state"], batch["rows"], batch["engine"]) == ("succeeded", ROWS, "compiled")
    parquet, csv, columns = downloaded(client, batch, folder)
    assert columns[-3:] == ["prediction", "probability_false", "probability_true"]
    for content in (parquet, csv):
        assert duckdb.sql(f"SELECT count(*) FROM {content}").fetchall() == [(ROWS,)]
        assert differences(content, f"'{table}'", columns[:-3]) == 0
    assert differences(csv, parquet, columns) == 0
    assert_same_alone(client, batch, parquet)


def test_two_models_learn_which_planes_will_be_late_and_score_them_all(server, tmp_path):
    table = late_flights(tmp_path)
    with server.client() as client, Peak(server) as peak:
        started = time.monotonic()
        made = client.post(
            "/datasets",
            data={"name": "late"},
            files={"file": ("late.parquet", table.read_bytes(), PARQUET)},
        )
        assert made.status_code == 201, made.text
        for run in trained(client):
            assert_learnt(run)
        told("trained", started, peak)
        for model in ESTIMATORS:
            assert_sane(client, model)
            assert_batch(client, model, table, tmp_path)
        told("scored", started, peak)
    assert peak.most < PROMISED
