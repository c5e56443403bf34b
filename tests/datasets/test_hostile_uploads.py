"""What an attacker uploads, names and asks for: data stay data, files stay where we put them."""

import io
import json
import pickle
import re
import zipfile

import pytest

from tests.datasets.installation import CSV, upload
from tests.problems import assert_problem

DATASETS = "/api/v1/datasets"
OURS = re.compile(r"project-\d+/datasets/[0-9a-f-]+(\.[a-z.]+)?")
FILENAMES = [
    "../../../app/__init__.py",
    "/etc/cron.d/x.csv",
    "..\\..\\windows\\win.ini",
    "a\x00.csv",
    "a\x1b[31m\u202evsc.exe",
    "\uff0e\uff0e\uff0fx",
    "CON",
    "x" * 5000,
    "; rm -rf ~",
    "$(touch /tmp/x).csv",
]
COLUMNS = [
    "__proto__",
    "__class__",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a'; DROP TABLE datasets;--",
    'a""b',
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "=cmd|' /C calc'!A0",
    "file_row_number",
    "\u202egnp",
    "\u0430dmin",
    "rowid",
    "%(name)s",
]


@pytest.mark.parametrize("filename", FILENAMES, ids=range(len(FILENAMES)))
def test_the_name_of_a_file_is_shown_and_never_a_place(on_sqlite, filename):
    client = on_sqlite.client()
    home = on_sqlite.settings.home
    before = {path for path in home.rglob("*") if "models_store" not in path.parts}
    form = {"name": "named", "file": (io.BytesIO(CSV.encode()), filename, "text/csv")}
    made = client.post(DATASETS, data=form, content_type="multipart/form-data")
    assert made.status_code in (201, 400), made.text
    assert all(OURS.fullmatch(key) for key in on_sqlite.stored_keys()), on_sqlite.stored_keys()
    after = {path for path in home.rglob("*") if "models_store" not in path.parts}
    assert not [path for path in after - before if "instance" not in path.parts]
    if made.status_code == 201:
        shown = client.get(f"{DATASETS}/named/versions/1").json["filename"]
        assert shown is None or (shown.isprintable() and len(shown) <= 255)
        assert not set(shown or "") & set("/\\")


@pytest.mark.parametrize(
    "smuggled",
    [
        "id",
        "project",
        "owner",
        "row_version",
        "storage_key",
        "storage",
        "path",
        "source",
        "location",
        "url",
        "digest",
        "state",
        "newest_version",
        "created_at",
        "format",
    ],
)
def test_what_the_server_decides_cannot_be_sent(client, smuggled):
    for body in ({"name": "other", smuggled: "x"}, {"name": "other", smuggled: "http://127.1/"}):
        problem = assert_problem(client.post(DATASETS, json=body), 422)
        assert problem["errors"][0]["pointer"] == f"/{smuggled}"
    patch = client.patch(f"{DATASETS}/penguins", json={smuggled: "x"})
    assert_problem(patch, 422)


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "s3://bucket/key",
        "gopher://127.0.0.1:1/",
        "http://127.1/",
        "http://[::ffff:7f00:1]/",
        "/etc/passwd",
    ],
)
def test_an_address_in_a_table_is_a_text(client, address):
    """Nothing is ever fetched: what looks like a place stays a cell."""
    made = upload(client, f"where,mass\n{address},1\n{address},2\n")
    assert made.status_code == 201, made.text
    rows = client.get(f"{DATASETS}/penguins/versions/1/rows").json
    assert "etc" not in json.dumps(rows).replace(address, "")
    assert address in json.dumps(rows)
    for query in ({"url": address}, {"source": address}, {"path": address}):
        assert_problem(upload(client, CSV, query=query), 422)


@pytest.mark.parametrize("name", COLUMNS)
def test_any_name_of_a_column_is_only_a_name(client, name):
    made = upload(client, json.dumps([{name: "x", "other": 1}]), content_type="application/json")
    assert made.status_code == 201, made.text
    assert [column["name"] for column in made.json["columns"]] == [name, "other"]
    page = client.get(f"{DATASETS}/penguins/versions/1/rows", query_string={"columns": name})
    assert page.status_code == 200
    for accept in ("text/csv", "application/x-ndjson"):
        content = client.get(f"{DATASETS}/penguins/versions/1/content", headers={"Accept": accept})
        assert (
            upload(client, content.data, content_type=accept).json["digest"]
            == (made.json["digest"])
        )


@pytest.mark.parametrize(
    "wanted",
    [
        "*",
        "count(*)",
        "species FROM dataset; DROP TABLE dataset;--",
        '"species"',
        "(VALUES (1))",
        "species as mass",
        "read_text('/etc/passwd')",
        "../mass",
        '["species", 1]',
        '["species"',
    ],
)
def test_columns_are_chosen_by_name_and_by_nothing_else(client, wanted):
    upload(client)
    answer = client.get(f"{DATASETS}/penguins/versions/1/rows", query_string={"columns": wanted})
    assert_problem(answer, 422)


def workbook():
    """A file that a spreadsheet opens: a zip of XML."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<x>&bomb;</x>")
    return buffer.getvalue()


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("format_", ["csv", "ndjson", "json", "parquet"])
def test_a_pickle_or_a_workbook_is_no_table(client, tmp_path, format_):
    canary = tmp_path / "canary"
    for body in (pickle.dumps(Evil(canary)), workbook(), b"!!python/object/apply:os.system [id]\0"):
        for query, content_type in (
            (None, "application/x-pickle"),
            (None, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            (None, "application/yaml"),
            ({"format": "xlsx"}, "application/octet-stream"),
            ({"format": format_}, "application/octet-stream"),
        ):
            answer = upload(client, body, query=query, content_type=content_type)
            assert answer.status_code in (415, 422), answer.text
    assert client.get(f"{DATASETS}/penguins/versions").json["items"] == []
    assert not canary.exists()


@pytest.mark.parametrize(
    "pattern", ["%" * 100, "%Y" * 50, "(a+)+$", "%Q", "%-", "%Y\x00", "%1000000d", "{0.__class__}"]
)
def test_the_format_of_a_time_is_no_program(client, pattern):
    columns = json.dumps({"when": {"type": "datetime", "format": pattern}})
    answer = upload(client, "when\n" + "a" * 30 + "!\n", **{"X-Columns": columns})
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize(
    "words", [["(" * 200], ["a"] * 101, ["x" * 1001], [1], "a", [["a"]], {"a": 1}, [None]]
)
def test_the_words_for_missing_values_are_few_and_short(client, words):
    columns = json.dumps({"mass": {"null_values": words}})
    answer = upload(client, CSV, **{"X-Columns": columns})
    assert answer.status_code == (201 if words == ["(" * 200] else 422), answer.text


def test_confusable_names_are_other_names_and_the_same_name_twice_is_refused(client):
    """Composed and decomposed spellings look alike and count as one; other alphabets don't."""
    composed = upload(client, "caf\u00e9,cafe\u0301\n1,2\n")
    assert_problem(composed, 422)
    latin_and_cyrillic = upload(client, "a,\u0430\n1,2\n")
    assert latin_and_cyrillic.status_code == 201
