"""What clients do with predictions: single, stored and over a whole dataset."""

import httpx

from tests.soak.ledger import same
from tests.soak.load import BASE, ROWS, Client

_MOST_OPEN = 1
_ENDED = ("succeeded", "failed", "cancelled")


def predict(client: Client) -> None:
    """One of the known rows; a version says the same of it each time."""
    if (version := client.pick_version()) is None:
        return
    model, number = version
    row = client.random.randrange(len(ROWS))
    path = f"/models/{model}/predict"
    answer = client.caller.send(
        "POST", path, params={"version": number}, json={"inputs": [ROWS[row]]}
    )
    if answer is None:
        return
    if not answer.is_success:
        client.caller.wrong(f"POST {path}?version={number}: {answer.status_code} {answer.text}")
        return
    outputs = answer.json()["outputs"]
    before = client.served.setdefault((model, number, row), outputs)
    if not same(before, outputs):
        client.caller.wrong(f"POST {path}?version={number}: {outputs}, before that {before}")


def store_prediction(client: Client) -> None:
    """A prediction that is kept; its first value is its mark."""
    if (version := client.pick_version()) is None:
        return
    key, mark = client.next_key("p"), float(client.next_number())
    client.ledger.tried(key, "/predictions", mark)
    inputs = [{"mass": mark, "height": 30.0}]
    body = {"model": f"{version[0]}/{version[1]}", "inputs": inputs}

    def done(answer: httpx.Response) -> None:
        told = answer.json()
        path = f"/predictions/{told['id']}"
        client.ledger.made(key, path, outputs=told["outputs"], inputs=told["inputs"])
        client.stored.append(path)

    # Its version may be deleted before an interrupted request is sent again.
    client.caller.make("/predictions", key, done, json=body, refusals={404, 422})


def delete_prediction(client: Client) -> None:
    """One that was kept."""
    if (path := client.pick(client.stored[-40:])) is not None:
        client.delete(path, refusals=set())


def start_batch(client: Client) -> None:
    """Predictions over the table that all train on."""
    version = client.pick_version()
    if version is None or len(client.open_batches) >= _MOST_OPEN:
        return
    key = client.next_key("b")
    client.ledger.tried(key, "/batch-predictions", key)
    body = {"model": f"{version[0]}/{version[1]}", "dataset": BASE, "tags": {"mark": key}}

    def done(answer: httpx.Response) -> None:
        path = f"/batch-predictions/{answer.json()['id']}"
        client.ledger.made(key, path, model=version[0], version=version[1], tags=body["tags"])
        client.open_batches.append(path)

    client.caller.make("/batch-predictions", key, done, json=body, refusals={404, 422})


def look_at_batch(client: Client) -> None:
    """How far a batch is; once it has been seen to end, it stays so."""
    path = client.pick(client.open_batches)
    answer = path and client.caller.send("GET", path)
    if path and answer and answer.is_success and answer.json()["state"] in _ENDED:
        client.open_batches.remove(path)
        client.ended_batches.append(path)
        client.ledger.holds(path, state=answer.json()["state"], rows=answer.json()["rows"])


def delete_batch(client: Client) -> None:
    """One that has ended, with its contents."""
    if len(client.ended_batches) > 3 and (path := client.pick(client.ended_batches)):
        client.delete(path, refusals=set())


ACTS = [
    (18, predict),
    (8, store_prediction),
    (2, delete_prediction),
    (2, start_batch),
    (3, look_at_batch),
    (1, delete_batch),
]
