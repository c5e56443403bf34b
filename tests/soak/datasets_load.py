"""What clients do with datasets: upload, add versions, describe, read, delete."""

import base64
import hashlib

import httpx

from tests.soak.load import Client

_BOUNDARY = "soak-boundary"


def _table(client: Client) -> bytes:
    """A table that exists once."""
    mark = client.next_number()
    rows = "".join(f"{mark},{n},{n % 3}\n" for n in range(client.random.randrange(5, 400)))
    return f"mark,row,rest\n{rows}".encode()


def _headers(body: bytes, content_type: str) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return {"Content-Type": content_type, "Content-Digest": f"sha-256=:{digest}:"}


def _source_digest(table: bytes) -> str:
    return f"sha-256:{hashlib.sha256(table).hexdigest()}"


def create_dataset(client: Client) -> None:
    """A dataset with its first version, by a form."""
    name, table = client.next_key("d"), _table(client)
    body = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n'
        f"Content-Type: text/csv\r\n\r\n"
    ).encode()
    body += table + f"\r\n--{_BOUNDARY}--\r\n".encode()
    path = f"/datasets/{name}"
    client.ledger.may_hold(path, name=name)
    client.ledger.tried(name, f"{path}/versions", _source_digest(table))

    def done(answer: httpx.Response) -> None:
        client.ledger.holds(path, name=name)
        made = answer.json()["version"]["version"]
        client.ledger.made(name, f"{path}/versions/{made}", source_digest=_source_digest(table))
        client.datasets.append(path)

    form = f"multipart/form-data; boundary={_BOUNDARY}"
    client.caller.make("/datasets", name, done, content=body, headers=_headers(body, form))


def add_version(client: Client) -> None:
    """One more version of a dataset."""
    path = client.pick(client.datasets)
    if path is None:
        return
    key, table = client.next_key("v"), _table(client)
    collection = f"{path}/versions"
    client.ledger.tried(key, collection, _source_digest(table))

    def done(answer: httpx.Response) -> None:
        place = f"{collection}/{answer.json()['version']}"
        client.ledger.made(key, place, source_digest=_source_digest(table))

    # Its dataset may be deleted before an interrupted upload is sent again.
    headers = _headers(table, "text/csv")
    client.caller.make(collection, key, done, content=table, headers=headers, refusals={404})


def describe_dataset(client: Client) -> None:
    """Another description, under the ETag."""
    if (path := client.pick(client.datasets)) is not None:
        client.change_if_unchanged(path, {"description": client.next_key("text")})


def delete_dataset(client: Client) -> None:
    """Nobody refers to it: it can go."""
    if (path := client.pick(client.datasets)) is not None:
        client.delete(path, refusals=set())


def read_dataset(client: Client) -> None:
    """Its newest rows as CSV, to the last one."""
    path = client.pick(client.datasets)
    listed = path and client.caller.send("GET", f"{path}/versions")
    if not listed or not listed.is_success:
        return
    newest = max(listed.json()["items"], key=lambda item: int(item["version"]))
    place = f"{path}/versions/{newest['version']}/content"
    content = client.caller.send("GET", place, headers={"Accept": "text/csv"})
    if content is not None and content.is_success:
        rows = content.text.strip().count("\n")
        if rows != newest["rows"]:
            client.caller.wrong(f"GET {place}: {rows} rows instead of {newest['rows']}")


ACTS = [
    (4, create_dataset),
    (3, add_version),
    (3, describe_dataset),
    (2, delete_dataset),
    (3, read_dataset),
]
