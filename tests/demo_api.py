"""The few routes that the demo calls, answering as the contract says; runs as a server of its own.

``python demo_api.py --host H --port P --home DIR``: datasets are kept in the home, so that a
second start finds them; every request is appended to ``requests.jsonl`` there. ``FAULT`` in the
environment makes it break one promise: ``exit``, ``fail_run`` or ``forget``.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

OUTPUT = {"label": "Gentoo", "probabilities": {"Adelie": 0.01, "Chinstrap": 0.01, "Gentoo": 0.98}}


class DemoApi:
    """A WSGI application; the state that must outlive it lies in the home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._polls = 0
        self._fault = os.environ.get("FAULT", "")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """Answer one request and keep what it was."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        call = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        authorized = (
            environ.get("HTTP_AUTHORIZATION") == "Bearer " + os.environ["MODELYARD_ADMIN_KEY"]
        )
        status, answer = self._answer(call, body) if authorized else (401, {"title": "no key"})
        if call == "GET /readyz":
            status, answer = 200, {"status": "ready"}
        else:
            told = {"call": call, "json": json.loads(body) if body.startswith(b"{") else None}
            with (self._home / "requests.jsonl").open("a") as log:
                log.write(json.dumps(told | {"status": status}) + "\n")
        payload = json.dumps(answer).encode()
        start_response(f"{status} .", [("Content-Type", "application/json")])
        return [payload]

    def _answer(self, call: str, body: bytes) -> tuple[int, dict[str, Any]]:
        sent = json.loads(body) if body.startswith(b"{") else {}
        made = {"id": "p1", "version": 1, "outputs": [OUTPUT] * len(sent.get("inputs", []))}
        stored = {"id": "p1", "outputs": [] if self._fault == "forget" else [OUTPUT]}
        answers = {
            "POST /api/v1/datasets": lambda: self._new_version(taken=409),
            "POST /api/v1/datasets/penguins/versions": lambda: self._new_version(taken=201),
            "POST /api/v1/training-runs": lambda: (202, {"id": "r1", "state": "queued"}),
            "GET /api/v1/training-runs/r1": lambda: (200, self._run()),
            "POST /api/v1/predictions": lambda: (201, made),
            "GET /api/v1/predictions/p1": lambda: (200, stored),
        }
        return answers.get(call, lambda: (404, {"title": "Not found", "detail": call}))()

    def _new_version(self, taken: int) -> tuple[int, dict[str, Any]]:
        versions = self._home / "versions"
        count = int(versions.read_text()) if versions.exists() else 0
        if count and taken == 409:
            return 409, {"title": "Conflict", "status": 409, "detail": "penguins exists"}
        versions.write_text(str(count + 1))
        return 201, {"dataset": "penguins", "version": count + 1, "rows": 344}

    def _run(self) -> dict[str, Any]:
        self._polls += 1
        progress = {"fraction": min(self._polls / 3, 1), "step": "fit", "message": "fitting"}
        run = {"id": "r1", "state": "running", "progress": progress}
        if self._polls < 3:
            return run
        if self._fault == "fail_run":
            return run | {"state": "failed", "error": {"code": "fit_error", "detail": "singular"}}
        return run | {"state": "succeeded", "metrics": {"accuracy": 0.99}, "model_version": 1}


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    for name in ("--host", "--port", "--home"):
        parser.add_argument(name)
    options = parser.parse_args()
    if os.environ.get("FAULT") == "exit":
        raise SystemExit("the database can't be opened")
    api = DemoApi(Path(options.home))
    with make_server(options.host, int(options.port), api, handler_class=_Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
