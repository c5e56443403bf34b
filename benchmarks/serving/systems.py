"""The systems that are compared: how each is started, asked and understood.

Each has one worker process and its defaults otherwise; native threads are one each. All answer the
probabilities of the same fitted models.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil

from benchmarks.serving.models import MODELS

PEERS = Path(__file__).with_name("peers")
JSON = {"Content-Type": "application/json"}
Rows = Sequence[Sequence[Any]]
START_SECONDS = 180.0


@dataclass(frozen=True)
class Stage:
    """Where a comparison takes place: ``venvs`` holds one per peer, ``models`` what is served."""

    venvs: Path
    models: Path
    scratch: Path

    def columns(self, model: str) -> list[str]:
        """The names of a model's columns."""
        return list(json.loads((self.models / f"{model}.json").read_text())["columns"])

    def rows(self, model: str) -> list[list[Any]]:
        """Rows to ask about."""
        return list(json.loads((self.models / f"{model}.json").read_text())["rows"])


@dataclass(frozen=True)
class Target:
    """Where requests about one model go."""

    url: str
    headers: Mapping[str, str] = field(default_factory=lambda: dict(JSON))


class System:
    """One system under test; ``port`` and the next two are its own."""

    name: ClassVar[str]
    venv: ClassVar[str | None] = None

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage = stage
        self.port = port
        self.processes: list[psutil.Popen] = []

    def start(self) -> None:
        """Start, and wait until every model answers."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        for model in MODELS:
            while True:
                try:
                    self.ask(model, self.stage.rows(model)[:1])
                    break
                except httpx.HTTPError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.5)

    def launch(self) -> None:
        """Start the processes."""
        raise NotImplementedError

    def target(self, model: str) -> Target:
        """Where to ask about a model."""
        return Target(f"http://127.0.0.1:{self.port}/{model}")

    def body(self, model: str, rows: Rows) -> Any:
        """The JSON body that asks about rows."""
        if model == "hg":
            return {"columns": self.stage.columns(model), "rows": rows}
        return rows

    def probabilities(self, model: str, answer: Any) -> Any:
        """A row of probabilities per row, out of the JSON answer."""
        del model
        return answer

    def ask(self, model: str, rows: Rows) -> Any:
        """The probabilities that the system answers."""
        target = self.target(model)
        answer = httpx.post(
            target.url, json=self.body(model, rows), headers=dict(target.headers), timeout=60
        )
        answer.raise_for_status()
        return self.probabilities(model, answer.json())

    def run(self, *command: str | Path, cwd: Path | None = None, **variables: str) -> None:
        """Start a process in a session of its own, its output in the scratch folder."""
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "BENCH_MODELS": str(self.stage.models),
            **variables,
        }
        with (self.stage.scratch / f"{self.name}.log").open("ab") as log:
            started = psutil.Popen(
                [str(part) for part in command],
                cwd=cwd or PEERS,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(started)

    def bin(self, name: str) -> Path:
        """A program of the system's venv."""
        return self.stage.venvs / (self.venv or self.name) / "bin" / name

    def tree(self) -> Iterator[psutil.Process]:
        """All processes of the system."""
        for process in self.processes:
            if process.is_running():
                yield process
                yield from process.children(recursive=True)

    def cpu_seconds(self) -> float:
        """User and system time of all processes so far."""
        times = [process.cpu_times() for process in self.tree()]
        return sum(time_.user + time_.system for time_ in times)

    def memory_bytes(self) -> int:
        """Proportional set size of all processes."""
        return sum(process.memory_full_info().pss for process in self.tree())

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except psutil.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


class Echo(System):
    """The limit: the same server as Modelyard's, sending the body back."""

    name = "echo"

    def launch(self) -> None:
        granian = Path(os.sys.executable).with_name("granian")
        self.run(
            *(granian, "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--blocking-threads", "1", "--no-ws", "echo:app"),
        )

    def ask(self, model: str, rows: Rows) -> Any:
        target = self.target(model)
        httpx.post(target.url, json=self.body(model, rows)).raise_for_status()
        return None


class Flask(System):
    """Flask on gunicorn, as one writes it in ten minutes."""

    name = "flask"

    def launch(self) -> None:
        self.run(
            *(self.bin("gunicorn"), "--workers", "1", "--bind", f"127.0.0.1:{self.port}"),
            "flask_app:app",
        )


class FastApi(System):
    """FastAPI on uvicorn, as one writes it in ten minutes."""

    name = "fastapi"

    def launch(self) -> None:
        self.run(
            *(self.bin("uvicorn"), "--port", str(self.port), "--no-access-log"),
            "fastapi_app:app",
        )


class Bento(System):
    """BentoML."""

    name = "bentoml"

    def launch(self) -> None:
        home = self.stage.scratch / "bentoml"
        self.run(
            *(self.bin("bentoml"), "serve", "bento_service:Models"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            BENTOML_HOME=str(home),
            BENTOML_DO_NOT_TRACK="True",
        )

    def body(self, model: str, rows: Rows) -> Any:
        if model == "hg":
            columns = self.stage.columns(model)
            return {"table": [dict(zip(columns, row, strict=True)) for row in rows]}
        return {"rows": rows}


class MlServer(System):
    """MLServer with its scikit-learn runtime, by the V2 protocol; one process, as is its best."""

    name = "mlserver"

    def launch(self) -> None:
        home = self.stage.scratch / "mlserver"
        home.mkdir(exist_ok=True)
        settings = {"http_port": self.port, "grpc_port": self.port + 1, "parallel_workers": 0}
        settings |= {"metrics_port": self.port + 2, "host": "127.0.0.1", "debug": False}
        (home / "settings.json").write_text(json.dumps(settings))
        for model in MODELS:
            (home / model).mkdir(exist_ok=True)
            told = {
                "name": model,
                "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": str(self.stage.models / f"{model}.joblib")},
            }
            (home / model / "model-settings.json").write_text(json.dumps(told))
        self.run(self.bin("mlserver"), "start", ".", cwd=home)

    def target(self, model: str) -> Target:
        return Target(f"http://127.0.0.1:{self.port}/v2/models/{model}/infer")

    def body(self, model: str, rows: Rows) -> Any:
        asked = {"outputs": [{"name": "predict_proba"}]}
        if model != "hg":
            flat = [value for row in rows for value in row]
            shape = [len(rows), len(rows[0])]
            one = {"name": "x", "shape": shape, "datatype": "FP64", "data": flat}
            return {"inputs": [one], **asked}
        inputs = []
        for place, name in enumerate(self.stage.columns(model)):
            values = [row[place] for row in rows]
            text = isinstance(values[0], str)
            column = {"name": name, "shape": [len(rows), 1], "data": values}
            column |= {"datatype": "BYTES" if text else "FP64"}
            inputs.append(column | ({"parameters": {"content_type": "str"}} if text else {}))
        return {"parameters": {"content_type": "pd"}, "inputs": inputs, **asked}

    def probabilities(self, model: str, answer: Any) -> Any:
        output = answer["outputs"][0]
        rows, width = output["shape"]
        return [output["data"][row * width : (row + 1) * width] for row in range(rows)]


class Mlflow(System):
    """MLflow's scoring server: one model per process, on ports of their own."""

    name = "mlflow"

    def launch(self) -> None:
        for place, model in enumerate(MODELS):
            home = self.stage.scratch / f"mlflow-{model}"
            if not home.exists():
                script = PEERS / "mlflow_save.py"
                command = [self.bin("python"), script, self.stage.models / f"{model}.joblib", home]
                subprocess.run(command, check=True, capture_output=True)
            self.run(
                *(self.bin("mlflow"), "models", "serve", "--model-uri", str(home)),
                *("--env-manager", "local", "--host", "127.0.0.1"),
                *("--port", str(self.port + place), "--workers", "1"),
                PATH=f"{self.bin('python').parent}:{os.environ['PATH']}",
            )

    def target(self, model: str) -> Target:
        return Target(f"http://127.0.0.1:{self.port + MODELS.index(model)}/invocations")

    def body(self, model: str, rows: Rows) -> Any:
        if model == "hg":
            return {"dataframe_split": {"columns": self.stage.columns(model), "data": rows}}
        return {"inputs": rows}

    def probabilities(self, model: str, answer: Any) -> Any:
        return answer["predictions"]


class Modelyard(System):
    """Modelyard as ``serve`` starts it: keys, scopes, admission, metrics and logs are on."""

    name = "modelyard"
    api_processes = 1
    KEY = "myk_benchmrk_" + "k" * 43

    def launch(self) -> None:
        home = self.stage.scratch / self.name
        home.mkdir(exist_ok=True)
        self.run(
            *(os.sys.executable, "-m", "app", "serve"),
            cwd=Path(__file__).parents[2],
            MODELYARD_HOME=str(home),
            MODELYARD_PORT=str(self.port),
            MODELYARD_ADMIN_KEY=self.KEY,
            MODELYARD_API_PROCESSES=str(self.api_processes),
        )
        self._import()

    def _import(self) -> None:
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/api/v1",
            headers={"Authorization": f"Bearer {self.KEY}"},
            timeout=120,
        )
        with client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    if client.get("../../readyz").is_success:
                        break
                except httpx.TransportError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(0.2)
            for model in MODELS:
                client.post("/models", json={"name": model}).raise_for_status()
                sent = client.post(
                    f"/models/{model}/versions",
                    content=(self.stage.models / f"{model}.skops").read_bytes(),
                    headers={"Content-Type": "application/octet-stream"},
                )
                sent.raise_for_status()
                while (shown := client.get(f"/models/{model}/versions/1?wait=30").json())[
                    "state"
                ] == "importing":
                    pass
                if shown["serving"]["engine"] != "compiled":
                    raise RuntimeError(f"{model} is not served compiled: {shown}")

    def target(self, model: str) -> Target:
        headers = {**JSON, "Authorization": f"Bearer {self.KEY}"}
        return Target(f"http://127.0.0.1:{self.port}/api/v1/models/{model}/predict", headers)

    def body(self, model: str, rows: Rows) -> Any:
        return {"columns": self.stage.columns(model), "rows": rows}

    def probabilities(self, model: str, answer: Any) -> Any:
        del model
        return [list(output["probabilities"].values()) for output in answer["outputs"]]


class ModelyardOnAllCores(Modelyard):
    """The same with an API process for each core."""

    name = "modelyard-all-cores"
    api_processes = os.cpu_count() or 1


SYSTEMS: tuple[type[System], ...] = (
    *(Modelyard, ModelyardOnAllCores),
    *(MlServer, Mlflow, Bento, FastApi, Flask, Echo),
)
