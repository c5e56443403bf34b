"""Versions: made from uploads of every kind, never changed, read row by row and whole."""

import gzip
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from app.kernel.http import receiving
from app.kernel.idempotency import HeldKey
from tests.datasets.installation import CSV, content_digest, make_dataset, upload
from tests.problems import assert_problem

RECORDS = [
    {"species": "Adelie", "mass": 3750},
    {"species": "Gentoo", "mass": 5700},
    {"species": "Gentoo", "mass": None},
]
VERSION = "/api/v1/datasets/penguins/versions/1"


def parquet(tmp_path):
    path = tmp_path / "sent.parquet"
    (tmp_path / "sent.csv").write_text(CSV)
    duckdb.sql(f"COPY (FROM '{tmp_path}/sent.csv') TO '{path}' (FORMAT parquet)")
    return path.read_bytes()


def test_an_upload_becomes_a_version_with_a_profile(installation):
    client = installation.client()
    make_dataset(client)
    made = upload(client)
    assert (made.status_code, made.headers["Location"]) == (201, VERSION)
    version = made.json
    assert (version["dataset"], version["version"], version["state"]) == (
        "penguins",
        1,
        "succeeded",
    )
    assert (version["rows"], version["rejected"], version["error"]) == (3, 0, None)
    assert version["source_digest"] == "sha-256:" + hashlib.sha256(CSV.encode()).hexdigest()
    assert version["source_bytes"] == len(CSV)
    species, mass = version["columns"]
    assert (species["name"], species["type"], species["nullable"]) == ("species", "string", False)
    assert (mass["name"], mass["type"], mass["nullable"]) == ("mass", "integer", True)
    assert (mass["missing"], mass["min"], mass["max"]) == (1, 3750, 5700)
    found = client.get(VERSION)
    assert (found.json, found.headers["ETag"]) == (version, made.headers["ETag"])
    assert client.get("/api/v1/datasets/penguins").json["newest_version"] == 1


def test_the_same_table_has_the_same_digest_in_every_format(client, tmp_path):
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    sent = [
        (CSV, "text/csv", {}),
        (gzip.compress(CSV.encode()), "text/csv", {"Content_Encoding": "gzip"}),
        (lines, "application/x-ndjson", {}),
        (json.dumps(RECORDS), "application/json", {}),
        (parquet(tmp_path), "application/vnd.apache.parquet", {}),
    ]
    made = [upload(client, body, content_type=kind, **headers).json for body, kind, headers in sent]
    assert [version["state"] for version in made] == ["succeeded"] * 5
    assert len({version["digest"] for version in made}) == 1
    assert len({version["source_digest"] for version in made}) == 5
    assert [version["format"] for version in made] == ["csv", "csv", "ndjson", "json", "parquet"]


def test_octets_are_read_as_the_query_says(client):
    made = upload(
        client,
        "a;b\n1,5;x\n",
        "penguins",
        "format=csv&delimiter=;&decimal=,",
        "application/octet-stream",
    )
    assert made.status_code == 201, made.text
    assert [column["type"] for column in made.json["columns"]] == ["number", "string"]


@pytest.mark.parametrize("content_type", ["text/csv; charset=ISO-8859-1", "text/csv"])
def test_an_encoding_is_told_by_the_type_or_the_query(client, content_type):
    query = None if "charset" in content_type else "encoding=latin-1"
    made = upload(
        client, "name\nMüller\n".encode("latin-1"), query=query, content_type=content_type
    )
    assert made.status_code == 201, made.text
    assert client.get(VERSION + "/rows").json["items"] == [{"name": "Müller"}]


def test_columns_are_read_as_the_header_says(client):
    columns = {"zip": {"type": "string"}, "sold": {"format": "%d.%m.%Y", "null_values": ["-"]}}
    body = "zip,sold\n01234,24.12.2025\n00001,-\n"
    made = upload(client, body, X_Columns=json.dumps(columns))
    assert [column["type"] for column in made.json["columns"]] == ["string", "datetime"]
    assert client.get(VERSION + "/rows").json["items"] == [
        {"zip": "01234", "sold": "2025-12-24T00:00:00Z"},
        {"zip": "00001", "sold": None},
    ]


def test_column_names_in_a_header_may_be_utf_8(client):
    columns = json.dumps({"größe": {"type": "string"}}, ensure_ascii=False)
    made = upload(client, "größe\n1\n", X_Columns=columns.encode().decode("latin-1"))
    assert made.json["columns"][0]["type"] == "string"


def test_a_form_makes_dataset_and_version_in_one_go(installation):
    client = installation.client()
    form = {
        "name": "penguins",
        "description": "Palmer",
        "tags": '{"year": "2009"}',
        "columns": '{"mass": {"type": "number"}}',
        "file": (io.BytesIO(CSV.encode()), "../../../app/__init__.py", "text/csv"),
    }
    made = client.post("/api/v1/datasets", data=form)
    assert made.status_code == 201, made.text
    assert made.headers["Location"] == "/api/v1/datasets/penguins"
    assert (made.json["tags"], made.json["newest_version"]) == ({"year": "2009"}, 1)
    assert (made.json["version"]["version"], made.json["version"]["rows"]) == (1, 3)
    assert made.json["version"]["filename"] == "__init__.py"
    assert client.get(VERSION).json["columns"][1]["type"] == "number"


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.ndjson", "t.jsonl", "t.json", "t.parquet"])
def test_a_form_s_file_may_tell_its_format_by_its_name(client, tmp_path, name):
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    bodies = {
        "csv": CSV.encode(),
        "ndjson": lines,
        "jsonl": lines,
        "json": json.dumps(RECORDS).encode(),
        "parquet": parquet(tmp_path),
    }
    body = bodies[name.lower().rpartition(".")[2]]
    form = {"file": (io.BytesIO(body), name, "application/octet-stream")}
    made = client.post("/api/v1/datasets/penguins/versions", data=form)
    assert made.status_code == 201, made.text
    assert made.json["rows"] == 3


def test_a_form_s_file_may_be_gzipped_by_its_type_but_not_by_its_name(client):
    body = gzip.compress(CSV.encode())
    path = "/api/v1/datasets/penguins/versions"
    said = {"file": (io.BytesIO(body), "t.csv.gz", "application/gzip")}
    assert client.post(path, data=said).json["rows"] == 3
    unsaid = {"file": (io.BytesIO(body), "t.csv.gz", "application/octet-stream")}
    assert_problem(client.post(path, data=unsaid), 422)


def test_bad_rows_can_be_put_aside(client):
    body = "species,mass\nAdelie,3750\nGentoo,heavy\nGentoo,5700\nGentoo,fat\n"
    made = upload(
        client, body, query="on_error=quarantine", X_Columns='{"mass": {"type": "integer"}}'
    )
    assert (made.status_code, made.json["rows"], made.json["rejected"]) == (201, 2, 2)
    rejects = client.get(VERSION + "/rejects").json
    assert [(item["row"], item["column"]) for item in rejects["items"]] == [
        (2, "mass"),
        (4, "mass"),
    ]
    assert "heavy" in json.dumps(rejects["items"][0]["raw"])
    assert (rejects["rows"], rejects["next_offset"]) == (2, None)
    second = client.get(VERSION + "/rejects?offset=1&limit=1").json
    assert [item["row"] for item in second["items"]] == [4]
    first = client.get(VERSION + "/rejects?limit=1").json
    assert first["next_offset"] == 1


def test_a_version_without_bad_rows_has_no_rejects(client):
    upload(client, query="on_error=quarantine")
    assert client.get(VERSION + "/rejects").json["items"] == []


def test_rows_are_paged_and_columns_chosen(client):
    upload(client, "a,b\n" + "".join(f"{n},x{n}\n" for n in range(25)))
    page = client.get(VERSION + "/rows?offset=10&limit=10&columns=b").json
    assert page["items"] == [{"b": f"x{n}"} for n in range(10, 20)]
    assert (page["rows"], page["next_offset"], page["columns"]) == (25, 20, ["b"])
    last = client.get(VERSION + "/rows?offset=20&limit=10&columns=b,a").json
    assert (len(last["items"]), last["next_offset"]) == (5, None)
    assert list(last["items"][0]) == ["b", "a"]
    assert client.get(VERSION + "/rows?offset=99").json["items"] == []


def test_a_column_with_a_comma_in_its_name_is_chosen_by_a_list(client):
    upload(client, '"a,b",c\n1,2\n')
    query = {"columns": json.dumps(["a,b"])}
    assert client.get(VERSION + "/rows", query_string=query).json["items"] == [{"a,b": 1}]


@pytest.mark.parametrize(
    "query",
    ["offset=-1", "limit=0", "limit=10001", "columns=nope", "columns=[1]", "columns=[", "x=1"],
)
def test_rows_that_can_not_be_chosen_are_refused(client, query):
    upload(client)
    assert_problem(client.get(f"{VERSION}/rows?{query}"), 422)


def test_large_rows_come_in_smaller_pages(client):
    upload(client, "text\n" + (("x" * 1_000_000) + "\n") * 40)
    page = client.get(VERSION + "/rows?limit=100").json
    assert 0 < len(page["items"]) < 40
    assert page["next_offset"] == len(page["items"])


def test_integers_past_two_to_the_53_arrive_whole(client):
    upload(client, "a\n9007199254740993\n")
    assert client.get(VERSION + "/rows").json["items"] == [{"a": 9007199254740993}]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/csv; charset=utf-8"),
        ("*/*", "text/csv; charset=utf-8"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/csv;q=0.1, application/x-ndjson;q=0.9", "application/x-ndjson"),
        ("text/html, application/vnd.apache.parquet", "application/vnd.apache.parquet"),
    ],
)
def test_the_content_comes_as_the_client_likes_it(client, accept, content_type):
    version = upload(client).json
    headers = {"Accept": accept} if accept else {}
    answer = client.get(VERSION + "/content", headers=headers)
    assert answer.headers["Content-Type"] == content_type
    kind = content_type.partition(";")[0]
    again = upload(client, answer.data, content_type=kind).json
    assert again["digest"] == version["digest"]
    assert "Accept" in answer.headers["Vary"]


def test_a_form_of_content_that_is_not_offered_is_told(client):
    upload(client)
    answer = client.get(VERSION + "/content", headers={"Accept": "text/html"})
    assert "text/csv" in assert_problem(answer, 406)["offered"]


def test_what_a_client_has_is_not_sent_again(client):
    upload(client)
    for accept in ("text/csv", "application/vnd.apache.parquet"):
        etag = client.get(VERSION + "/content", headers={"Accept": accept}).headers["ETag"]
        headers = {"Accept": accept, "If-None-Match": etag}
        assert client.get(VERSION + "/content", headers=headers).status_code == 304


def test_a_part_of_the_parquet_file_can_be_had(client):
    upload(client)
    accept = {"Accept": "application/vnd.apache.parquet"}
    whole = client.get(VERSION + "/content", headers=accept)
    assert whole.headers["Repr-Digest"] == content_digest(whole.data)
    part = client.get(VERSION + "/content", headers={**accept, "Range": "bytes=4-9"})
    assert (part.status_code, part.data) == (206, whole.data[4:10])
    assert part.headers["Content-Range"] == f"bytes 4-9/{len(whole.data)}"
    beyond = client.get(VERSION + "/content", headers={**accept, "Range": "bytes=999999-"})
    assert_problem(beyond, 416)
    head = client.head(VERSION + "/content", headers=accept)
    assert (head.data, head.headers["Content-Length"]) == (b"", str(len(whole.data)))


def test_a_spreadsheet_gets_no_formulas(client):
    upload(client, 'a\n"=cmd|calc"\n"-x"\n"+1x"\n"@x"\n"plain"\n')
    plain = client.get(VERSION + "/content").text
    assert "\n=cmd|calc" in plain
    safe = client.get(VERSION + "/content?spreadsheet=true").text
    assert not [line for line in safe.splitlines()[1:] if line.lstrip('"')[0] in "=+-@"]
    answer = client.get(
        VERSION + "/content?spreadsheet=true", headers={"Accept": "application/x-ndjson"}
    )
    assert_problem(answer, 422)


def test_versions_are_listed_newest_first_without_their_profiles(client):
    for mass in range(3):
        upload(client, f"mass\n{mass}\n")
    items = client.get("/api/v1/datasets/penguins/versions").json["items"]
    assert [item["version"] for item in items] == [3, 2, 1]
    assert "columns" not in items[0]
    found = client.get("/api/v1/datasets/penguins/versions?version__gte=2&order_by=version")
    assert [item["version"] for item in found.json["items"]] == [2, 3]


def test_the_same_bytes_again_are_a_new_version_of_the_same_digest(client):
    first, second = upload(client).json, upload(client).json
    assert (first["version"], second["version"]) == (1, 2)
    assert first["digest"] == second["digest"]


def test_a_retry_with_the_same_key_makes_one_version(installation):
    client = installation.client()
    make_dataset(client)
    headers = {"Idempotency_Key": "once", "Content_Digest": content_digest(CSV)}
    first, again = upload(client, **headers), upload(client, **headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    other = "a\n1\n"
    headers["Content_Digest"] = content_digest(other)
    assert_problem(upload(client, other, **headers), 422)
    assert len(client.get("/api/v1/datasets/penguins/versions").json["items"]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"X_Columns": '{"mass": {"type": "number"}}'},
        {"content_type": "text/csv; charset=latin-1"},
        {"content_type": "application/octet-stream", "query": "format=csv"},
        {"query": "delimiter=;"},
        {"Content_Encoding": "gzip"},
    ],
    ids=str,
)
def test_the_same_bytes_to_be_read_otherwise_are_another_request(client, changed):
    """With the same key the first answer came again, of the table as it was read first."""
    headers = {"Idempotency_Key": "once", "Content_Digest": content_digest(CSV)}
    assert upload(client, **headers).status_code == 201
    problem = assert_problem(upload(client, **headers, **changed), 422)
    assert problem["errors"][0]["code"] == "key_reused"
    assert len(client.get("/api/v1/datasets/penguins/versions").json["items"]) == 1


def test_headers_that_say_the_same_make_no_other_request(client):
    headers = {"Idempotency_Key": "once", "Content_Digest": content_digest(CSV)}
    first = upload(client, **headers)
    for same in ({"Content_Encoding": ""}, {"Content_Encoding": "identity"}, {"Prefer": "x"}):
        assert upload(client, **headers, **same).json == first.json


def test_a_json_upload_is_not_read_into_memory_for_its_key(client):
    body = json.dumps(RECORDS)
    headers = {"Idempotency_Key": "once", "Content_Digest": content_digest(body)}
    first = upload(client, body, content_type="application/json", **headers)
    again = upload(client, body, content_type="application/json", **headers)
    assert (first.status_code, again.json) == (201, first.json)
    del headers["Content_Digest"]
    assert_problem(upload(client, body, content_type="application/json", **headers), 422)


def test_a_refused_upload_frees_its_key(client):
    body = "a,b\n1\n2,3,4\n"
    headers = {"Idempotency_Key": "once", "Content_Digest": content_digest(body)}
    for _ in range(2):
        assert_problem(upload(client, body, **headers), 422)


def test_a_long_upload_keeps_its_key(installation, monkeypatch):
    client = installation.client()
    make_dataset(client)
    renewed = []

    def renew(held):
        renewed.append(held)

    monkeypatch.setattr(receiving, "_RENEWAL_SECONDS", 0)
    monkeypatch.setattr(HeldKey, "renew", renew)
    upload(client, Idempotency_Key="once", Content_Digest=content_digest(CSV))
    assert len(renewed) >= 2


def test_versions_made_at_once_are_numbered_without_a_gap(installation):
    client = installation.client()
    make_dataset(client)
    key = client.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")

    def send(number):
        return upload(installation.yard.client(key), f"mass\n{number}\n").json["version"]

    with ThreadPoolExecutor(20) as threads:
        numbers = list(threads.map(send, range(20)))
    assert sorted(numbers) == list(range(1, 21))
    assert client.get("/api/v1/datasets/penguins").json["newest_version"] == 20


def test_a_stored_table_that_was_altered_is_never_shown(on_sqlite, client):
    upload(client, "altered\n1\n")
    (key,) = on_sqlite.stored_keys()
    path = on_sqlite.settings.home / "models_store" / key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for path in ("/rows", "/content"):
        answer = client.get(VERSION + path)
        assert (answer.status_code, answer.json["type"]) == (503, "/problems/corrupt")
