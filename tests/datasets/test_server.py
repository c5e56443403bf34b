"""Uploads and downloads over the real server: Flask's test client hides how servers end a body.

The bug: a server that loses its client in the middle of a body hands what it got over as if that
were all of it.
"""

import itertools
import socket
import threading
import time

import psutil
import pytest

from tests.datasets.installation import CSV, content_digest
from tests.datasets.served import Served, memory_of

CSV_TYPE = {"Content-Type": "text/csv"}
VERSIONS = "/api/v1/datasets/penguins/versions"
BODY = (CSV * 40_000).replace("\nspecies,mass", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all tests."""
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.close()


@pytest.fixture
def dataset(server):
    """The server, with a dataset named penguins."""
    made = server.client.post("/api/v1/datasets", json={"name": "penguins"})
    assert made.status_code in (201, 409)
    return server


def vanish(server, *headers, body):
    """Send a part of an upload, and go."""
    connection = server.connection(server.head_of_upload(*headers) + body)
    time.sleep(0.2)
    connection.close()


def test_half_uploads_leave_no_version_and_no_file(dataset):
    before = dataset.left()
    half = BODY[: len(BODY) // 2].encode()
    digest = f"Content-Digest: {content_digest(BODY)}"
    chunk = f"{len(half):x}\r\n".encode() + half + b"\r\n"
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n\r\n' + half
    multipart = "Content-Type: multipart/form-data; boundary=x"
    whole = f"Content-Length: {len(BODY)}"
    vanish(dataset, whole, body=half)
    vanish(dataset, "Transfer-Encoding: chunked", digest, body=chunk)
    vanish(dataset, f"Content-Length: {len(form) * 2}", multipart, body=form)
    vanish(dataset, whole, "Content-Encoding: gzip", body=b"\x1f\x8b" + half)
    dataset.wait(lambda: dataset.left()[2] == 0)
    assert dataset.left() == before


def test_an_upload_and_its_download_over_the_wire(dataset):
    made = dataset.client.post(VERSIONS, content=BODY, headers=CSV_TYPE)
    assert (made.status_code, made.json()["rows"]) == (201, 120_000)
    path = made.headers["Location"] + "/content"
    with dataset.client.stream("GET", path) as answer:
        size = sum(map(len, answer.iter_raw()))
    assert size > 1_000_000
    part = dataset.client.get(
        path, headers={"Accept": "application/vnd.apache.parquet", "Range": "bytes=0-3"}
    )
    assert (part.status_code, part.content) == (206, b"PAR1")


def test_a_chunked_upload_needs_its_digest(dataset):
    pieces = [BODY[at : at + 10_000].encode() for at in range(0, len(BODY), 10_000)]
    bare = dataset.client.post(VERSIONS, content=iter(pieces), headers=CSV_TYPE)
    assert bare.status_code == 411
    headers = {**CSV_TYPE, "Content-Digest": content_digest(BODY)}
    whole = dataset.client.post(VERSIONS, content=iter(pieces), headers=headers)
    assert (whole.status_code, whole.json()["rows"]) == (201, 120_000)


def test_a_body_in_tiny_chunks_is_taken(dataset):
    body = CSV * 300
    pieces = (char.encode() for char in body)
    headers = {**CSV_TYPE, "Content-Digest": content_digest(body)}
    answer = dataset.client.post(VERSIONS, content=pieces, headers=headers)
    assert answer.status_code in (201, 422)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Content-Length: 99999999999999"], 413),
        (["Content-Length: 45", "Content-Type: text/plain"], 415),
        (["Content-Length: 45", "Content-Digest: sha-256=:x:"], 422),
        (["Transfer-Encoding: chunked"], 411),
    ],
)
def test_what_is_refused_is_told_before_the_body_comes(dataset, headers, status):
    head = dataset.head_of_upload(*headers, "Expect: 100-continue")
    with dataset.connection(head) as connection:
        assert connection.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_who_sends_on_while_being_refused_sees_the_answer(dataset):
    for _ in range(10):
        refused = dataset.client.post(
            VERSIONS, content=b"x" * 5_000_000, headers={"Content-Type": "text/plain"}
        )
        assert refused.status_code == 415


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: -1"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5x"],
    ],
)
def test_lengths_that_contradict_make_no_version(dataset, headers):
    before = dataset.left()
    with dataset.connection(
        dataset.head_of_upload(*headers) + b"5\r\na\n1\n2\r\n0\r\n\r\n"
    ) as sent:
        sent.shutdown(socket.SHUT_WR)
        answer = sent.recv(4096)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4",))
    assert dataset.left() == before


def test_stalled_uploads_do_not_slow_the_others(dataset):
    head = dataset.head_of_upload(f"Content-Length: {len(BODY)}")
    stalled = [dataset.connection(head + BODY[:1000].encode()) for _ in range(20)]
    try:
        time.sleep(0.5)
        slowest = 0.0
        for _ in range(10):
            started = time.monotonic()
            assert dataset.client.get("/livez").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 5
        made = dataset.client.post(VERSIONS, content=CSV, headers=CSV_TYPE)
        assert made.status_code == 201
    finally:
        for connection in stalled:
            connection.close()


def test_uploads_past_the_slots_are_asked_to_come_back(dataset):
    head = dataset.head_of_upload(f"Content-Length: {len(BODY)}")
    stalled = []

    def full():
        # What went before may hold a place for a moment longer than its file, so one is refused.
        stalled.append(dataset.connection(head + b"x"))
        return dataset.left()[2] == 24

    try:
        dataset.wait(full)
        answer = dataset.client.post(VERSIONS, content=CSV, headers=CSV_TYPE)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    finally:
        for connection in stalled:
            connection.close()
    dataset.wait(lambda: dataset.left()[2] == 0)
    answer = dataset.client.post(VERSIONS, content=CSV, headers=CSV_TYPE)
    assert answer.status_code == 201


def test_downloads_that_are_given_up_free_their_places(dataset):
    path = dataset.client.post(VERSIONS, content=BODY, headers=CSV_TYPE).headers["Location"]
    request = (
        f"GET {path}/content HTTP/1.1\r\nHost: 127.0.0.1:{dataset.port}\r\n"
        f"Authorization: Bearer {dataset.key}\r\nAccept: application/x-ndjson\r\n\r\n"
    ).encode()
    for _ in range(3 * dataset.settings.stream_slots):
        connection = dataset.connection(request)
        assert connection.recv(10).startswith(b"HTTP/1.1 2")
        connection.close()
        dataset.wait(lambda: dataset.client.head(path + "/content").status_code == 200)


def test_an_ingest_that_is_killed_fails_the_upload_and_leaves_nothing(dataset):
    answers = []
    before = dataset.left()
    rows = (f"{n},{n * 7 % 1009},{n % 13}.5\n" for n in itertools.count())
    body = "a,b,c\n" + "".join(itertools.islice(rows, 1_500_000))

    def send():
        answers.append(dataset.client.post(VERSIONS, content=body, headers=CSV_TYPE))

    sender = threading.Thread(target=send)
    sender.start()
    work = dataset.settings.instance / "work" / "uploads"
    dataset.wait(lambda: work.is_dir() and list(work.glob("*/tmp*")))
    dataset.ingest.kill()
    dataset.ingest.wait()
    sender.join(30)
    assert answers[0].status_code == 503
    assert dataset.left() == before
    dataset.start_ingest()
    answer = dataset.client.post(VERSIONS, content=CSV, headers=CSV_TYPE)
    assert answer.status_code == 201


def test_a_download_outlives_the_ingest_process(dataset):
    body = "text\n" + ("x" * 1000 + "\n") * 40_000
    path = dataset.client.post(VERSIONS, content=body, headers=CSV_TYPE).headers["Location"]
    with dataset.client.stream("GET", path + "/content") as answer:
        assert answer.headers["Content-Length"] == str(len(body))
        pieces = answer.iter_raw()
        size = len(next(pieces))
        dataset.ingest.kill()
        dataset.ingest.wait()
        dataset.start_ingest()
        assert size + sum(map(len, pieces)) == len(body)


@pytest.fixture
def empty(tmp_path):
    """A server with a dataset that has no version."""
    served = Served(tmp_path)
    served.client.post("/api/v1/datasets", json={"name": "penguins"})
    yield served
    served.close()


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_what_the_sweep_removes(empty):
    head = empty.head_of_upload(f"Content-Length: {len(BODY)}")
    connection = empty.connection(head + BODY[:100_000].encode())
    work = empty.settings.instance / "work" / "uploads"
    empty.wait(lambda: work.is_dir() and list(work.iterdir()))
    worker = psutil.Process(empty.worker_pid())
    worker.kill()
    # Its lock on the folder goes when it is gone, not yet when it is told to go.
    worker.wait(60)
    connection.close()
    assert len(list(work.iterdir())) == 1
    assert empty.service.leftovers.sweep(older_than=0).folders == 1
    assert list(work.iterdir()) == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_gigabyte_needs_little_memory(empty):
    worker = empty.worker_pid()
    block = "".join(
        ",".join(f"{(row * 12 + column) * 0.7315 % 1000:.6f}" for column in range(12)) + "\n"
        for row in range(10_000)
    ).encode()
    head = ",".join(f"c{column}" for column in range(12)).encode() + b"\n"
    count = (10**9 - len(head)) // len(block)
    peaks = {"worker": 0, "ingest": 0}
    done = threading.Event()

    def watch():
        while not done.wait(0.1):
            peaks["worker"] = max(peaks["worker"], memory_of(worker))
            peaks["ingest"] = max(peaks["ingest"], memory_of(empty.ingest.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    headers = {**CSV_TYPE, "Content-Length": str(len(head) + count * len(block))}
    body = itertools.chain([head], itertools.repeat(block, count))
    made = empty.client.post(VERSIONS, content=body, headers=headers, timeout=500)
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    assert (made.status_code, made.json()["rows"]) == (201, count * 10_000)
    assert peaks["worker"] < 180 * 10**6, (seconds, peaks)
    assert peaks["ingest"] < 400 * 10**6, (seconds, peaks)
