"""What one of each thing costs: CPU seconds of the processes that do it, bytes, seconds alone.

One server on the loopback, its database on Postgres, its topics on one NATS server. What else the
machine does changes CPU seconds little, rates and times much: the model is built on the former.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import create_engine, text

from app.config import Settings
from app.gateway import write_gateway
from app.predictions.resources import EXAMPLE_ROW
from app.settings_table import SERVICES
from benchmarks.load import Answers, Load, json_post
from benchmarks.measured import Peak, api_of, cpu_of, share_of
from tests.nats import NatsServer
from tests.nginx import Nginx
from tests.server import Server, free_port, wait_for
from tests.soak.installation import postgres

CONSTANTS = Path(__file__).with_name("constants.json")
PENGUINS = Path(__file__).resolve().parents[2] / "examples" / "penguins.csv"
_CALLERS = 8
_BATCH = 100
_RECORD = {"flight": 1545, "carrier": "UA", "origin": "EWR", "dest": "IAH", "dep_delay": 2.0}


@dataclass(frozen=True)
class Constants:
    """What was measured; seconds are CPU seconds unless their name says otherwise."""

    measured_on: str
    load_average: float
    predict_seconds: float
    """Of the API's processes, a prediction of one row that isn't kept."""
    predict_alone: float
    """Wall seconds at the median, one caller."""
    hundred_rows_seconds: float
    gateway_seconds: float
    """Of nginx, a request."""
    stored_seconds: float
    """Of the API's processes, a prediction of one row that is kept."""
    stored_database_seconds: float
    stored_bytes: float
    run_wall: float
    """Wall seconds of a small run at the median, from `running` to its end."""
    run_start: float
    """Wall seconds from the acceptance to `running`, with an idle worker."""
    run_seconds: float
    """Of the worker, with all its children."""
    run_api_seconds: float
    run_database_seconds: float
    run_bytes: float
    """In the artifact store."""
    record_seconds: float
    """Of the API's processes, a record of a batch of 100."""
    record_log_seconds: float
    """Of the one NATS server."""
    record_bytes: float
    worker_idle_share: float
    """Of a core, of an idle worker with its children."""
    database_idle_share: float
    """Of a core, of Postgres beside one idle server with one worker."""
    api_memory: float
    worker_memory: float
    """With the process that fits are forked from."""
    fit_memory: float
    """More than that, while a small fit runs."""


Crew = Callable[[], Sequence[psutil.Process]]
Idle = Mapping[Crew, float]
"""The share of a core that each crew takes while nobody asks for anything."""


@dataclass(frozen=True)
class Place:
    """A server with what it stands on."""

    server: Server
    client: httpx.Client
    database_url: str
    nats: NatsServer

    def of_api(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        return api_of(self.server)

    def of_workers(self) -> list[psutil.Process]:
        """Workers, and what they fork fits from."""
        workers = self.server.processes("role worker")
        crew = {one.pid: one for main in workers for one in [main, *main.children(recursive=True)]}
        return list(crew.values())

    def of_database(self) -> list[psutil.Process]:
        """The Postgres server with its backends."""
        engine = create_engine(self.database_url)
        with engine.connect() as connection:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            main = psutil.Process(backend).parent()
        engine.dispose()
        assert main is not None
        return [main, *main.children(recursive=True)]

    def of_log(self) -> list[psutil.Process]:
        """The NATS server."""
        return [psutil.Process(self.nats.pid)]

    def database_bytes(self) -> int:
        """What the database takes."""
        engine = create_engine(self.database_url)
        with engine.connect() as connection:
            size = connection.execute(text("SELECT pg_database_size(current_database())"))
            return int(size.scalar_one())


@contextmanager
def place(workers: int = 1) -> Iterator[Place]:
    """A server on Postgres and NATS with a model that predicts."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        url = stack.enter_context(postgres())
        nats = NatsServer(home / "nats").start()
        stack.callback(nats.kill)
        nats.wait_until_ready()
        environment = {
            "MODELYARD_DATABASE_URL": url,
            "MODELYARD_LOG_URL": f"nats://{nats.address}",
            "MODELYARD_API_PROCESSES": "1",
            "MODELYARD_WORKERS": str(workers),
            "MODELYARD_LOG_LEVEL": "error",
        }
        server = stack.enter_context(Server(home / "home", environment))
        client = stack.enter_context(server.client())
        files = {"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")}
        client.post("/datasets", data={"name": "penguins"}, files=files).raise_for_status()
        for _ in range(2):
            train(client)
        yield Place(server, client, url, nats)


def ask_for_run(client: httpx.Client) -> str:
    """The path of a small run that was accepted."""
    wanted = {"model": "penguins", "dataset": "penguins", "target": "species"}
    answer = client.post(
        "/training-runs", json={**wanted, "estimator": {"name": "LogisticRegression"}}
    )
    answer.raise_for_status()
    return f"/training-runs/{answer.json()['id']}"


def train(client: httpx.Client) -> dict[str, Any]:
    """A small run that has succeeded."""
    run = wait_for(client, ask_for_run(client))
    assert run["state"] == "succeeded", run
    return run


def request(server: Server, path: str, body: object, port: int = 0) -> bytes:
    """A POST as the load sends it."""
    return json_post(port or server.port, f"/api/v1{path}", server.admin_key, body)


PREDICT = "/models/penguins/predict"


def rows(count: int) -> dict[str, Any]:
    """The body of a prediction."""
    return {"inputs": [EXAMPLE_ROW] * count}


def measure(seconds: float, runs: int) -> Constants:
    """Start what is needed, and look."""
    found: dict[str, Any] = {
        "measured_on": f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    }
    with place() as here:
        idle = _idle(here, seconds)
        found["worker_idle_share"] = idle[here.of_workers]
        found["database_idle_share"] = idle[here.of_database]
        found |= _predictions(here, seconds, idle)
        found |= _stored(here, seconds, idle)
        found |= _records(here, seconds, idle)
        found |= _runs(here, runs, idle)
        found |= _memory(here)
    found["load_average"] = round(os.getloadavg()[0], 1)
    return Constants(**found)


def _spent(work: Callable[[], int], idle: Idle, *crews: Crew) -> tuple[float, ...]:
    """CPU seconds of each crew for one of what ``work`` counts, less what it takes when idle."""
    found = [(processes := crew(), cpu_of(processes)) for crew in crews]
    started = time.monotonic()
    count = work()
    lasted = time.monotonic() - started
    spent = [cpu_of(processes) - before for processes, before in found]
    own = (seconds - idle.get(crew, 0) * lasted for seconds, crew in zip(spent, crews, strict=True))
    return tuple(max(0.0, seconds) / count for seconds in own)


def _answered(load: Load, seconds: float, status: int) -> int:
    told: Answers = load.closed(_CALLERS, seconds)
    assert told.count(status) > 50, {s: told.count(s) for s in told.seconds}
    return told.count(status)


def _predictions(here: Place, seconds: float, idle: Idle) -> dict[str, float]:
    server = here.server
    one, hundred = (request(server, PREDICT, rows(count)) for count in (1, 100))
    with Load(server.port, one) as load:
        load.closed(_CALLERS, 2)
        alone = load.closed(1, seconds / 2).quantile(200, 0.5)
    with Load(server.port, one) as load:
        (spent,) = _spent(lambda: _answered(load, seconds, 200), idle, here.of_api)
    with Load(server.port, hundred) as load:
        (spent_hundred,) = _spent(lambda: _answered(load, seconds / 2, 200), idle, here.of_api)
    return {
        "predict_alone": alone,
        "predict_seconds": spent,
        "hundred_rows_seconds": spent_hundred,
        "gateway_seconds": _gateway(here, seconds / 2),
    }


def _gateway(here: Place, seconds: float) -> float:
    port, folder = free_port(), here.server.home.parent / "gateway"
    urls = {f"MODELYARD_{name.upper()}_URL": here.server.url for name in SERVICES}
    settings = Settings.from_environment({**urls, "MODELYARD_HOME": str(here.server.home)})
    made = write_gateway(settings, folder, f"127.0.0.1:{port}")

    def nginx() -> list[psutil.Process]:
        (main,) = (
            one
            for one in psutil.Process().children()
            if str(folder) in " ".join(one.cmdline()) or one.name().startswith("nginx")
        )
        return [main, *main.children(recursive=True)]

    with (
        Nginx(made, f"http://127.0.0.1:{port}"),
        Load(port, request(here.server, PREDICT, rows(1), port)) as load,
    ):
        (spent,) = _spent(lambda: _answered(load, seconds, 200), {}, nginx)
    return spent


def _stored(here: Place, seconds: float, idle: Idle) -> dict[str, float]:
    body = {"model": "penguins", **rows(1)}
    before, kept = here.database_bytes(), 0

    def keep() -> int:
        nonlocal kept
        kept = _answered(load, seconds, 201)
        return kept

    with Load(here.server.port, request(here.server, "/predictions", body)) as load:
        spent, of_database = _spent(keep, idle, here.of_api, here.of_database)
    return {
        "stored_seconds": spent,
        "stored_database_seconds": of_database,
        "stored_bytes": (here.database_bytes() - before) / kept,
    }


def _records(here: Place, seconds: float, idle: Idle) -> dict[str, float]:
    made = here.client.post("/topics", json={"name": "flights", "partitions": 3, "replicas": 1})
    assert made.status_code == 201, made.text
    body = {"records": [{"key": f"k{n}", "value": _RECORD} for n in range(_BATCH)]}
    path = "/topics/flights/records"
    before, kept = _bytes_below(here.nats.folder), 0

    def produce() -> int:
        nonlocal kept
        kept = _answered(load, seconds, 201) * _BATCH
        return kept

    with Load(here.server.port, request(here.server, path, body)) as load:
        spent, of_log = _spent(produce, idle, here.of_api, here.of_log)
    return {
        "record_seconds": spent,
        "record_log_seconds": of_log,
        "record_bytes": (_bytes_below(here.nats.folder) - before) / kept,
    }


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _runs(here: Place, count: int, idle: Idle) -> dict[str, float]:
    store = here.server.home / "models_store"
    before, told = _bytes_below(store), list[dict[str, Any]]()

    def train_all() -> int:
        told.extend(train(here.client) for _ in range(count))
        return count

    spent = _spent(train_all, idle, here.of_workers, here.of_api, here.of_database)
    walls = [between(run, "started_at", "finished_at") for run in told]
    return {
        "run_wall": statistics.median(walls),
        "run_start": statistics.median(between(run, "created_at", "started_at") for run in told),
        "run_seconds": spent[0],
        "run_api_seconds": spent[1],
        "run_database_seconds": spent[2],
        "run_bytes": (_bytes_below(store) - before) / count,
    }


def between(run: dict[str, Any], first: str, last: str) -> float:
    """Seconds between two moments of a run."""
    moments = (datetime.fromisoformat(run[name]) for name in (last, first))
    return (next(moments) - next(moments)).total_seconds()


def _idle(here: Place, seconds: float) -> Idle:
    time.sleep(2)

    def wait() -> int:
        time.sleep(seconds)
        return 1

    crews = here.of_workers, here.of_api, here.of_database
    shares = (spent / seconds for spent in _spent(wait, {}, *crews))
    return dict(zip(crews, shares, strict=True))


def _memory(here: Place) -> dict[str, float]:
    memory = sum(share_of(one.pid) for one in here.of_workers())
    with Peak(lambda: [one.pid for one in here.of_workers()]) as peak:
        for _ in range(3):
            train(here.client)
    return {
        "worker_memory": memory,
        "fit_memory": max(0, peak.bytes - memory),
        "api_memory": sum(share_of(one.pid) for one in here.of_api()),
    }


def write(found: Constants) -> None:
    """Keep what was found, in four digits."""
    told = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in asdict(found).items()
    }
    CONSTANTS.write_text(json.dumps(told, indent=2) + "\n")


def read() -> Constants:
    """What was found last."""
    return Constants(**json.loads(CONSTANTS.read_text()))
