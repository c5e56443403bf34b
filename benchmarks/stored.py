"""What it costs that a prediction is kept: the rate of stored ones beside that of the others.

    python -m benchmarks.stored [--rounds 5] [--seconds 5] [--callers 8]

Starts a server of its own on the loopback and trains a model on the penguins. In each round the
same row is asked for in two ways in turns, by as many callers, each of whom asks again as soon as
it is answered: ``POST /models/{name}/predict``, which keeps nothing, and ``POST /predictions``,
which answers when the prediction is durable. Ratios are those of the rounds, the median tells.

Then the supervisor and the API are killed (SIGKILL) while the callers store, the server is started
again over the same home, and every prediction that was acknowledged is read: none may be missing.
The machine stays up, so this says nothing of a power cut. It ends with what was promised and what
was found, and exits with 1 when a promise was not kept.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from app.predictions.resources import EXAMPLE_ROW
from benchmarks.load import Load, json_post
from benchmarks.measured import api_of, cpu_of, judged
from tests.server import Server, wait_for

_PENGUINS = Path(__file__).resolve().parents[1] / "examples" / "penguins.csv"
_LEAST_SHARE = 0.5
_BEFORE_THE_KILL = 3.0
_WAYS = {
    "unstored": ("/api/v1/models/penguins/predict", {"inputs": [EXAMPLE_ROW]}, 200),
    "stored": ("/api/v1/predictions", {"model": "penguins", "inputs": [EXAMPLE_ROW]}, 201),
}


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each way in each round")
    parser.add_argument("--callers", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "home") as server:
        with server.client() as client:
            _train(client)
        kept = _beside(server, options.rounds, options.seconds, options.callers)
        kept += _killed(server, options.callers)
    return judged(kept)


def _train(client: httpx.Client) -> None:
    files = {"file": ("penguins.csv", _PENGUINS.read_bytes(), "text/csv")}
    client.post("/datasets", data={"name": "penguins"}, files=files).raise_for_status()
    wanted = {"model": "penguins", "dataset": "penguins", "target": "species"}
    answer = client.post("/training-runs", json=wanted)
    answer.raise_for_status()
    run = wait_for(client, f"/training-runs/{answer.json()['id']}")
    assert run["state"] == "succeeded", run["error"]


def _beside(server: Server, rounds: int, seconds: float, callers: int) -> list[tuple[str, bool]]:
    answering = api_of(server)
    shares = []
    for number in range(rounds + 1):
        rates, told = {}, []
        for way, (path, body, status) in _WAYS.items():
            with Load(server.port, json_post(server.port, path, server.admin_key, body)) as load:
                burnt = cpu_of(answering)
                answers = load.closed(callers, seconds)
                burnt = cpu_of(answering) - burnt
            assert set(answers.seconds) == {status}, sorted(answers.seconds)
            rates[way] = answers.rate(status)
            p50, p99 = (answers.quantile(status, share) * 1000 for share in (0.5, 0.99))
            cpu = burnt / answers.count(status) * 1e6
            told.append(
                f"{way} {rates[way]:5.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, CPU {cpu:.0f} us"
            )
        # The first one warms up.
        if number:
            shares.append(rates["stored"] / rates["unstored"])
            print(f"{number}  {'  '.join(told)}", flush=True)
    share = statistics.median(shares)
    told = f"{callers} callers store at {share:.2f} x the rate of those who don't"
    return [(f"{told}, {_LEAST_SHARE} at least", share >= _LEAST_SHARE)]


def _killed(server: Server, callers: int) -> list[tuple[str, bool]]:
    acknowledged: list[str] = []
    threads = [
        threading.Thread(target=_store_until_cut, args=(server, acknowledged))
        for _ in range(callers)
    ]
    for thread in threads:
        thread.start()
    time.sleep(_BEFORE_THE_KILL)
    answering = api_of(server)
    server.kill()
    for process in answering:
        process.kill()
    for thread in threads:
        thread.join()
    server.start()
    with server.client() as client:
        lost = [one for one in acknowledged if not client.get(f"/predictions/{one}").is_success]
    told = f"{len(lost)} of {len(acknowledged)} acknowledged predictions lost by kill -9, 0 at most"
    return [(told, bool(acknowledged) and not lost)]


def _store_until_cut(server: Server, acknowledged: list[str]) -> None:
    _, body, _ = _WAYS["stored"]
    with server.client() as client:
        while True:
            try:
                answer = client.post("/predictions", json=body)
            except httpx.TransportError:
                return
            answer.raise_for_status()
            acknowledged.append(answer.json()["id"])


if __name__ == "__main__":
    sys.exit(main())
