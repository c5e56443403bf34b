"""Uploads that are refused: each says why, and leaves nothing."""

import gzip
import io
import json

import pytest

from app.kernel.errors import StorageFull
from tests.datasets.installation import CSV, Installation, content_digest, make_dataset, upload
from tests.problems import assert_problem

BOUNDARY = "frontier"


@pytest.fixture
def refusing(on_sqlite):
    """A client of a dataset; afterwards there must be no version, no file, no stored thing."""
    client = on_sqlite.client()
    make_dataset(client)
    yield client
    assert client.get("/api/v1/datasets/penguins/versions").json["items"] == []
    assert client.get("/api/v1/datasets").json["items"][0]["name"] == "penguins"
    assert len(client.get("/api/v1/datasets").json["items"]) == 1
    assert on_sqlite.stored_keys() == []
    assert on_sqlite.work_folders() == []


def pointer_of(answer, status):
    return assert_problem(answer, status)["errors"][0]["pointer"]


def test_half_a_body_is_malformed(refusing):
    answer = refusing.post(
        "/api/v1/datasets/penguins/versions",
        input_stream=io.BytesIO(CSV.encode()),
        content_type="text/csv",
        environ_overrides={"CONTENT_LENGTH": str(len(CSV) + 1)},
    )
    assert_problem(answer, 400)


def test_half_a_body_as_servers_hand_it_over_is_malformed(refusing):
    answer = refusing.post(
        "/api/v1/datasets/penguins/versions",
        input_stream=io.BytesIO(CSV.encode()),
        content_type="text/csv",
        environ_overrides={
            "CONTENT_LENGTH": str(len(CSV) + 1),
            "wsgi.input_terminated": True,
        },
    )
    assert_problem(answer, 400)


@pytest.mark.parametrize("digest", [content_digest("other"), "sha-256=:short=:", "md5=:x:", ""])
def test_a_digest_that_is_not_the_body_s_is_refused(refusing, digest):
    answer = upload(refusing, Content_Digest=digest)
    assert pointer_of(answer, 422) == "Content-Digest"


def test_a_body_over_the_limit_is_too_large(tmp_path):
    installation = Installation(tmp_path, max_upload=10)
    client = installation.client()
    make_dataset(client)
    assert assert_problem(upload(client), 413)["limit"] == 10
    installation.close()


def test_an_expanded_body_over_the_limit_is_too_large(tmp_path):
    installation = Installation(tmp_path, max_expanded=1_000_000)
    client = installation.client()
    make_dataset(client)
    bomb = gzip.compress(b"a\n" + b"1\n" * 5_000_000)
    assert_problem(upload(client, bomb, Content_Encoding="gzip"), 413)
    assert installation.stored_keys() == []
    installation.close()


@pytest.mark.parametrize(
    ("limit", "body"),
    [
        ({"max_columns": 3}, "a,b,c,d\n1,2,3,4\n"),
        ({"max_columns": 1000}, ",".join(["c"] * 1_000_000) + "\n"),
        ({"max_line": 1000}, "a\n" + "x" * 1001 + "\n"),
    ],
)
def test_a_table_over_a_limit_is_refused(tmp_path, limit, body):
    installation = Installation(tmp_path, **limit)
    client = installation.client()
    make_dataset(client)
    assert upload(client, body).status_code in (413, 422)
    assert installation.stored_keys() == []
    installation.close()


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "image/png", ""])
def test_a_type_that_is_no_table_is_not_supported(refusing, content_type):
    problem = assert_problem(upload(refusing, content_type=content_type), 415)
    assert "text/csv" in problem["accepted"]


def test_a_header_of_columns_has_a_bound(refusing):
    columns = json.dumps({"mass": {"type": "integer"}})
    assert_problem(upload(refusing, X_Columns=columns + " " * 500_000), 422)


@pytest.mark.parametrize("coding", ["", " ", "identity", "Identity"])
def test_an_empty_content_encoding_is_none(on_sqlite, coding):
    client = on_sqlite.client()
    make_dataset(client)
    assert upload(client, Content_Encoding=coding).status_code == 201


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_content_encoding_is_not_supported(refusing, coding):
    assert_problem(upload(refusing, Content_Encoding=coding), 415)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("delimitr=;", "?delimitr"),
        ("delimiter=x", "?delimiter"),
        ("decimal=x", "?decimal"),
        ("encoding=klingon", "?encoding"),
        ("on_error=ignore", "?on_error"),
        ("format=xls", "?format"),
        ("format=parquet", "?format"),
        ("url=http://169.254.169.254/", "?url"),
    ],
)
def test_a_parameter_that_is_not_offered_is_named(refusing, query, pointer):
    assert pointer_of(upload(refusing, query=query), 422) == pointer


def test_octets_do_not_tell_their_format(refusing):
    answer = upload(refusing, content_type="application/octet-stream")
    assert pointer_of(answer, 422) == "?format"


@pytest.mark.parametrize(
    ("columns", "pointer"),
    [
        ("{", "X-Columns"),
        ("[]", "/columns"),
        ('{"mass": {"type": "float"}}', "/columns/mass/type"),
        ('{"mass": {"kind": "number"}}', "/columns/mass/kind"),
        ('{"mass": {"format": "%Q"}}', "/columns/mass/format"),
        ('{"mass": 7}', "/columns/mass"),
    ],
)
def test_column_rules_that_are_none_are_named(refusing, columns, pointer):
    assert pointer_of(upload(refusing, X_Columns=columns), 422) == pointer


@pytest.mark.parametrize(
    "body",
    [b"", b"a,b\n", b"a,b\n1,2,3\n", b'a\n"open', b"a\n\x00\n", CSV.encode("utf-16"), b"PAR1junk"],
    ids=["empty", "header", "ragged", "quote", "nul", "utf-16", "binary"],
)
def test_a_file_that_is_no_table_is_refused(refusing, body):
    problem = assert_problem(upload(refusing, body), 422)
    assert problem["detail"]


def test_gzip_bytes_that_do_not_say_so_are_refused(refusing):
    assert_problem(upload(refusing, gzip.compress(CSV.encode())), 422)


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_gzip_bytes_cut_short_are_refused(refusing, cut):
    body = gzip.compress(CSV.encode())[:-cut]
    answer = upload(refusing, body, Content_Encoding="gzip")
    assert answer.status_code in (400, 422)


def test_a_bad_row_is_told_with_row_column_and_reason(refusing):
    columns = '{"mass": {"type": "integer"}}'
    body = "species,mass\nAdelie,3750\nGentoo,heavy\n"
    problem = assert_problem(upload(refusing, body, X_Columns=columns), 422)
    assert problem["errors"][0]["pointer"] == "/rows/2/mass"
    assert (problem["rows"][0]["row"], problem["rows"][0]["column"]) == (2, "mass")
    assert problem["rows"][0]["reason"]


def form(*parts):
    body = b""
    for name, content, filename in parts:
        disposition = f'form-data; name="{name}"'
        if filename is not None:
            disposition += f'; filename="{filename}"'
        body += f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        body += content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def post_form(client, body, boundary=f"; boundary={BOUNDARY}", **headers):
    return client.post(
        "/api/v1/datasets",
        data=body,
        content_type=f"multipart/form-data{boundary}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


NAME, FILE = ("name", b"new", None), ("file", CSV.encode(), "t.csv")


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ([NAME], "/file"),
        ([FILE], "/name"),
        ([("name", b"Not A Name", None), FILE], "/name"),
        ([NAME, FILE, FILE], "/file"),
        ([NAME, FILE, ("extra", b"", None)], "/extra"),
        ([NAME, FILE, ("tags", b"{", None)], "/tags"),
        ([NAME, FILE, ("tags", b'{"a": 1}', None)], "/tags/a"),
        ([NAME, FILE, ("columns", b"7", None)], "/columns"),
        ([NAME, ("file", CSV.encode(), "t.bin")], "?format"),
    ],
)
def test_a_form_that_is_not_right_makes_no_dataset(refusing, parts, pointer):
    assert pointer_of(post_form(refusing, form(*parts)), 422) == pointer


def test_a_form_whose_file_is_no_table_makes_no_dataset(refusing):
    assert_problem(post_form(refusing, form(NAME, ("file", b"a,b\n1\n2,3,4\n", "t.csv"))), 422)


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'b' * 200_000}"])
def test_a_form_without_a_boundary_is_malformed(refusing, boundary):
    assert_problem(post_form(refusing, form(NAME, FILE), boundary), 400)


def test_a_form_without_its_end_is_malformed(refusing):
    assert_problem(post_form(refusing, form(NAME, FILE)[:-10]), 400)


def test_a_form_of_too_many_parts_is_too_large(refusing):
    parts = [(f"p{number}", b"", None) for number in range(1001)]
    assert_problem(post_form(refusing, form(*parts)), 413)


def test_a_form_with_a_huge_text_is_too_large(refusing):
    assert_problem(post_form(refusing, form(NAME, ("description", b"x" * 600_000, None))), 413)


def test_a_whole_form_can_not_be_gzipped(refusing):
    body = gzip.compress(form(NAME, FILE))
    assert_problem(post_form(refusing, body, Content_Encoding="gzip"), 415)


def test_a_form_for_a_name_that_is_taken_is_a_conflict(refusing):
    assert_problem(post_form(refusing, form(("name", b"penguins", None), FILE)), 409)


def test_too_many_uploads_at_once_are_asked_to_come_back(tmp_path):
    installation = Installation(tmp_path, upload_slots=1)
    client = installation.client()
    make_dataset(client)
    with installation.wiring.upload_slots.hold():
        answer = upload(client)
    assert_problem(answer, 503)
    assert upload(client).status_code == 201
    installation.close()


def test_a_full_store_is_told_and_leaves_nothing(refusing, on_sqlite, monkeypatch):
    def put(key, source):
        raise StorageFull("No space left to keep it")

    monkeypatch.setattr(on_sqlite.wiring.store, "put", put)
    assert_problem(upload(refusing), 507)


def test_without_the_ingest_process_an_upload_may_be_tried_again(tmp_path):
    installation = Installation(tmp_path, ingest=False)
    client = installation.client()
    make_dataset(client)
    assert_problem(upload(client), 503)
    assert installation.work_folders() == []
    installation.close()
