"""What clients do with training runs and with the models that come of them."""

import httpx

from tests.soak.load import BASE, FEATURES, Client, version_path

ESTIMATORS = (
    {
        "name": "KNeighborsClassifier",
        "params": {"weights": "distance", "algorithm": "brute"},
    },  # has no compiled form: served by the scorer
    {"name": "GaussianNB"},
    {"name": "LogisticRegression"},
    {"name": "RandomForestClassifier", "params": {"n_estimators": 12}},
    {"name": "RandomForestClassifier", "params": {"n_estimators": 150}},
    {"name": "DecisionTreeClassifier"},
)
_MOST_OPEN = 2
_ENDED = ("succeeded", "failed", "cancelled")


def start_run(client: Client) -> None:
    """A run, unless enough of one's own haven't ended."""
    if len(client.open_runs) >= _MOST_OPEN:
        return
    key = client.next_key("r")
    client.ledger.tried(key, "/training-runs", key)
    body = {
        "model": f"{client.label}-m{client.random.randrange(2)}",
        "dataset": BASE,
        "target": "kind",
        "features": list(FEATURES),
        "estimator": client.random.choice(ESTIMATORS),
        "tags": {"mark": key},
    }

    def done(answer: httpx.Response) -> None:
        path = f"/training-runs/{answer.json()['id']}"
        client.ledger.made(key, path, model=body["model"], tags=body["tags"])
        client.open_runs.append(path)

    client.caller.make("/training-runs", key, done, json=body)


def look_at_run(client: Client) -> None:
    """How far a run is; once it has been seen to end, it stays so."""
    path = client.pick(client.open_runs)
    answer = path and client.caller.send("GET", path)
    if not path or not answer or not answer.is_success:
        return
    run = answer.json()
    if run["state"] in _ENDED:
        client.open_runs.remove(path)
        client.ended_runs.append(path)
        client.ledger.holds(path, state=run["state"], model_version=run["model_version"])
        if run["state"] == "succeeded":
            version = run["model"], run["model_version"]
            client.ledger.holds(version_path(*version), version=version[1])
            client.versions.append(version)


def cancel_run(client: Client) -> None:
    """Ask for a run to be cancelled; it may have ended already."""
    if (path := client.pick(client.open_runs)) is not None:
        key = client.next_key("x")
        client.caller.make(f"{path}/cancel", key, lambda _: None, refusals={409})


def tag_run(client: Client) -> None:
    """Another tag beside the mark, under the ETag."""
    path = client.pick(client.ended_runs + client.open_runs)
    seen = path and client.caller.send("GET", path)
    if path and seen and seen.is_success:
        tags = {**seen.json()["tags"], "more": client.next_key("t")}
        match = {"If-Match": seen.headers["ETag"]}
        client.change("PATCH", path, {"tags": tags}, headers=match, refusals={412})


def delete_run(client: Client) -> None:
    """A run that has ended, and of which nothing is asked for again; its version stays."""
    asked = {one.path for one in client.caller.pending}
    ended = [path for path in client.ended_runs if f"{path}/cancel" not in asked]
    if (path := client.pick(ended)) is not None:
        client.delete(path, refusals=set())


def move_alias(client: Client) -> None:
    """Point an alias at a version."""
    if (version := client.pick_version()) is not None:
        name = client.random.choice(("champion", "candidate", "spare"))
        path = f"/models/{version[0]}/aliases/{name}"
        client.change("PUT", path, {"version": version[1]})


def drop_alias(client: Client) -> None:
    """The alias that nobody needs."""
    if (version := client.pick_version()) is not None:
        path = f"/models/{version[0]}/aliases/spare"
        client.delete(path, refusals=set() if client.ledger.is_there(path) else {404})


def describe_model(client: Client) -> None:
    """Another description of a model or a version, under the ETag."""
    if (version := client.pick_version()) is not None:
        path = client.random.choice((f"/models/{version[0]}", version_path(*version)))
        client.change_if_unchanged(path, {"description": client.next_key("text")})


def delete_version(client: Client) -> None:
    """One of the older versions, unless an alias points at it."""
    if len(client.versions) > 4 and (version := client.pick_version()) is not None:
        client.delete(version_path(*version), refusals={409})


ACTS = [
    (8, start_run),
    (10, look_at_run),
    (1, cancel_run),
    (2, tag_run),
    (1, delete_run),
    (3, move_alias),
    (1, drop_alias),
    (3, describe_model),
    (1, delete_version),
]
