"""Rows as Arrow and CSV, outputs as Arrow and CSV: what JSON says of the same rows."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.datasets.ingest import cell_words
from app.kernel.arrow.stream import ArrowStream
from app.kernel.arrow.writer import stream_of
from app.kernel.errors import Invalid
from app.kernel.repeated import array_of
from app.predictions import csv_input
from app.predictions.arrow_input import read_arrow
from app.predictions.csv_input import read_csv
from app.predictions.media_types import ARROW, CSV, JSON, OFFERED
from app.predictions.output_tables import csv_of
from app.scoring.frame import PARTS, Recipe, prepare
from app.scoring.output_columns import output_columns, scores_of
from app.scoring.plain_values import plain_values
from app.scoring.scores import Scores
from tests.kernel.test_arrow_stream import STREAMS
from tests.predictions.predicting import ROW
from tests.problems import assert_problem

ROWS = [ROW, {"mass": 3000.5, "island": "nowhere"}, {"mass": 1e3, "island": 'a,"b"\n'}]
MOST_ROWS, MOST_TEXT = 100, 10**6


def csv_text(rows):
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return written.getvalue().encode()


def arrow_of(rows):
    kinds = {"mass": np.float64, "island": object}
    return stream_of({name: np.array([row[name] for row in rows], kinds[name]) for name in rows[0]})


BODIES = {
    JSON: lambda rows: json.dumps({"inputs": rows}).encode(),
    ARROW: arrow_of,
    CSV: csv_text,
}


def ask(yard, rows, sent, accept, model="fast", query=""):
    body = rows if isinstance(rows, bytes) else BODIES[sent](rows)
    path = f"/api/v1/models/{model}/predict{query}"
    return yard.client().post(path, data=body, content_type=sent, headers={"Accept": accept})


def columns_of(answer):
    """The outputs as columns of texts and numbers, in whatever form they came."""
    assert answer.status_code == 200, answer.text
    kind = answer.mimetype
    if kind == JSON:
        outputs = answer.json["outputs"]
        found = {"prediction": [row["label"] for row in outputs]}
        for name in outputs[0].get("probabilities", ()):
            found[f"probability_{name}"] = [row["probabilities"][name] for row in outputs]
        return found
    if kind == ARROW:
        columns = ArrowStream(answer.data, MOST_TEXT).read()
        return {column.field.name: array_of(column.values).tolist() for column in columns}
    names, *rows = csv.reader(io.StringIO(answer.text))
    told = dict(zip(names, zip(*rows, strict=True), strict=True))
    return {
        name: list(cells) if name == "prediction" else list(map(float, cells))
        for name, cells in told.items()
    }


@pytest.mark.parametrize("model", ["fast", "slow"])
def test_all_forms_of_the_same_rows_get_the_same_outputs(predicting, model):
    wanted = columns_of(ask(predicting, ROWS, JSON, JSON, model))
    for sent in OFFERED:
        for accept in OFFERED:
            answer = ask(predicting, ROWS, sent, accept, model)
            assert columns_of(answer) == wanted
            assert answer.mimetype == accept
            if accept != JSON:
                told = {"fast": "compiled", "slow": "sklearn"}[model]
                assert answer.headers["X-Model-Engine"] == told
                assert answer.headers["X-Model-Version"] == "1"
                assert "Accept" in answer.headers["Vary"]


def test_a_table_answered_as_json_is_answered_as_json_is(predicting):
    assert ask(predicting, ROWS, ARROW, JSON).json == ask(predicting, ROWS, JSON, JSON).json


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=5),
    st.sampled_from([*csv_input.NULL_WORDS, "Biscoe", "Dream", '"', ",", "\n", " a ", "é漢"]),
)
MASSES = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.fixed_dictionaries({"mass": MASSES, "island": TEXTS}), min_size=1, max_size=9),
    st.sampled_from([1, 6]),
)
def test_whatever_the_rows_hold_all_forms_say_the_same(predicting, rows, times):
    rows = rows * times
    answers = [ask(predicting, quoted(rows), CSV, ARROW), ask(predicting, rows, ARROW, CSV)]
    answers.append(ask(predicting, rows, JSON, JSON))
    assert len({answer.status_code for answer in answers}) == 1
    if answers[0].status_code == 200:
        assert columns_of(answers[0]) == columns_of(answers[1]) == columns_of(answers[2])


def quoted(rows):
    """Texts in quotes: nothing in them is a word for what is missing."""
    lines = ["mass,island"]
    for row in rows:
        text = row["island"].replace('"', '""')
        lines.append(f'{row["mass"]!r},"{text}"')
    return "\n".join(lines).encode()


def test_only_the_parts_asked_for_become_columns(predicting):
    body = json.dumps({"inputs": [ROW], "include": ["label"]}).encode()
    assert columns_of(ask(predicting, body, JSON, CSV)) == {"prediction": ["heavy"]}
    body = json.dumps({"inputs": [ROW], "include": ["probabilities"]}).encode()
    assert list(columns_of(ask(predicting, body, JSON, ARROW))) == [
        "probability_heavy",
        "probability_light",
    ]


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("*/*", 200, JSON),
        ("application/*", 200, JSON),
        ("text/*", 200, CSV),
        ("text/csv;q=0.5, application/json;q=0.4", 200, CSV),
        ("text/csv;q=0.4, application/json;q=0.5", 200, JSON),
        ("application/json, text/plain, */*", 200, JSON),
        ("text/html, */*;q=0.1", 200, JSON),
        ("text/html", 406, ""),
        ("application/json;q=0", 406, ""),
    ],
)
@pytest.mark.parametrize("sent", OFFERED)
def test_accept_decides_what_comes_back(predicting, sent, accept, status, kind):
    answer = ask(predicting, [ROW], sent, accept)
    if status == 406:
        assert assert_problem(answer, 406)["offered"] == [*OFFERED]
    else:
        assert answer.mimetype == kind


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/vnd.apache.arrow.file", "text/csv; charset=latin-1", "text/tsv"],
)
def test_other_forms_of_rows_are_415(predicting, kind):
    problem = assert_problem(ask(predicting, b"x", kind, JSON), 415)
    assert problem["accepted"] == [*OFFERED]


@pytest.mark.parametrize("kind", [ARROW, CSV])
def test_a_compressed_body_is_415(predicting, kind):
    answer = predicting.client().post(
        "/api/v1/models/fast/predict",
        data=BODIES[kind]([ROW]),
        content_type=kind,
        headers={"Content-Encoding": "gzip"},
    )
    assert_problem(answer, 415)


def test_versions_and_missing_models_are_as_with_json(predicting):
    assert ask(predicting, ROWS, CSV, CSV, query="?version=1").status_code == 200
    for sent in (CSV, ARROW):
        assert_problem(ask(predicting, ROWS, sent, CSV, query="?version=9"), 404)
        assert_problem(ask(predicting, ROWS, sent, CSV, model="nobody"), 404)
        assert_problem(ask(predicting, ROWS, sent, CSV, query="?version=1&alias=a"), 422)
        assert_problem(ask(predicting, [ROW] * 10_001, sent, CSV), 413)


def test_a_body_past_the_limit_is_413(tmp_path, predicting, monkeypatch):
    monkeypatch.setitem(predicting.app.config, "MAX_CONTENT_LENGTH", 1000)
    for sent in (CSV, ARROW):
        assert_problem(ask(predicting, [ROW] * 100, sent, JSON), 413)


INPUTS = [
    {"name": "count", "type": "integer", "nullable": True},
    {"name": "mass", "type": "number", "nullable": False},
    {"name": "wild", "type": "boolean", "nullable": True},
    {"name": "name", "type": "string", "nullable": True},
    {"name": "at", "type": "datetime", "nullable": True},
]


def read_cells(*lines):
    heading = ",".join(column["name"] for column in INPUTS)
    return read_csv("\n".join([heading, *lines]).encode(), INPUTS, MOST_ROWS)


def test_csv_is_typed_by_the_signature():
    found = read_cells(
        "1,1.5,true,Ann,2024-02-29",
        "-2,.5e1,NO,,2024-02-29T10:00:00Z",
        "5.0,7,1,NA,2024-02-29 10:00+0130",
        ' NA ,"8", - ,"NA",?',
    )
    assert plain_values(found) == {
        "count": [1, -2, 5, None],
        "mass": [1.5, 5.0, 7.0, 8.0],
        "wild": [True, False, True, None],
        "name": ["Ann", None, None, "NA"],
        "at": ["2024-02-29", "2024-02-29T10:00:00Z", "2024-02-29 10:00:00+01:30", None],
    }


def test_the_words_for_what_is_missing_are_those_of_uploads():
    assert frozenset(cell_words.NULL_WORDS) == csv_input.NULL_WORDS
    assert frozenset(cell_words.WEAK_NULL_WORDS) == csv_input.WEAK_NULL_WORDS
    words = (*cell_words.TRUE_WORDS, *cell_words.FALSE_WORDS)
    found = read_cells(*(f"1,1,{word},a," for word in words))["wild"]
    assert found.tolist() == [word in cell_words.TRUE_WORDS for word in words]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(end):
    text = "\ufeff" + end.join([" mass ,island", "", "1,a", "", '2,"x, y"'])
    inputs = [
        {"name": "mass", "type": "number", "nullable": True},
        {"name": "island", "type": "string", "nullable": True},
    ]
    found = plain_values(read_csv(text.encode(), inputs, MOST_ROWS))
    assert found == {"mass": [1.0, 2.0], "island": ["a", "x, y"]}


@pytest.mark.parametrize(
    ("cells", "place", "code"),
    [
        (",,,,", 1, "null"),
        ("1.5,1,,,", 0, "type"),
        ("9223372036854775808,1,,,", 0, "out_of_range"),
        ("1,1e999,,,", 1, "out_of_range"),
        ("1,one,,,", 1, "type"),
        ("1,1,maybe,,", 2, "type"),
        ("1,1,,,2024-02-30", 4, "type"),
        ("1,1,,,29.02.2024", 4, "type"),
    ],
)
def test_a_bad_cell_is_pointed_at(cells, place, code):
    with pytest.raises(Invalid) as refused:
        read_cells("1,1,true,a,2024-01-01", cells)
    assert [(e.pointer, e.code) for e in refused.value.errors] == [(f"/rows/1/{place}", code)]


def test_faults_are_listed_by_rows():
    with pytest.raises(Invalid) as refused:
        read_cells("x,1,,,", "1,x,,,", "x,x,,,")
    pointers = [error.pointer for error in refused.value.errors]
    assert pointers == ["/rows/0/0", "/rows/1/1", "/rows/2/0", "/rows/2/1"]


NUMERALS = st.one_of(
    st.from_regex(csv_input._NUMBER, fullmatch=True),
    st.text("0123456789+-.eE_ ", min_size=1, max_size=8),
    st.sampled_from(["9223372036854775807", "9223372036854775808", "1e400", "-0", "nan", "inf"]),
)


def numbers_of(cells, type_):
    """What becomes of a column: its values, or what is wrong with it."""
    inputs = [{"name": "x", "type": type_, "nullable": True}]
    try:
        found = read_csv("\n".join(["x", *cells]).encode(), inputs, MOST_ROWS)
    except Invalid as error:
        return {(fault.pointer, fault.code) for fault in error.errors}
    return plain_values(found)["x"][: len(cells)]


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMERALS, min_size=1, max_size=3), st.sampled_from(["integer", "number"]))
def test_a_column_without_gaps_is_read_as_one_with_them(cells, type_):
    quick, careful = numbers_of(cells, type_), numbers_of([*cells, "NA"], type_)
    assert quick == (careful if isinstance(careful, set) else careful[: len(cells)])


TYPES = {
    "int8": ("integer", [1, None, -3]),
    "uint64": ("integer", [1, None, 2**63 - 1]),
    "int64": ("number", [2**60, 1, None]),
    "half": ("number", [1.5, None, 2.0]),
    "float": ("number", [1.5, None, 2.0]),
    "double": ("number", [0.1, None, -2.5]),
    "bool": ("boolean", [True, None, False]),
    "text": ("string", ["a", "", None]),
    "large": ("string", ["é漢", "x", None]),
    "view": ("string", ["more than twelve bytes", "x", None]),
    "coded": ("string", ["b", "a", None]),
    "decimal": ("number", [1.25, None, -3.5]),
    "wide": ("number", [1.25, None, -3.5]),
    "date32": ("datetime", ["2024-02-29", None, "1969-12-31"]),
    "date64": ("datetime", ["2024-02-29", None, "1969-12-31"]),
    "seconds": ("datetime", ["1970-01-01T00:00:01Z", None, "1969-12-31T23:59:59Z"]),
    "zoned": ("datetime", ["1970-01-01T00:00:00.000001Z", None, "1969-12-31T23:59:59.999999Z"]),
    "nanos": ("datetime", ["1970-01-01T00:00:00Z", None, "1969-12-31T23:59:59.999999Z"]),
    "nothing": ("string", [None, None, None]),
}
WHOLE = {"int8", "uint64", "int64"}
KINDS = {"datetime": "date_part", "string": "category", "boolean": "category"}


def signed(types):
    return [{"name": n, "type": type_, "nullable": True} for n, type_ in types.items()]


def test_a_column_of_every_type_is_prepared_as_that_of_json_is():
    data = (STREAMS / "pyarrow.arrows").read_bytes()
    found = read_arrow(data, signed({n: t for n, (t, _) in TYPES.items()}), MOST_ROWS, MOST_TEXT)
    assert list(found) == list(TYPES)
    plain = plain_values(found)
    for name, (type_, values) in TYPES.items():
        json_says = {name: [*values, *values[1:]]}
        for part in PARTS if type_ == "datetime" else (None,):
            kind = KINDS.get(type_, "number")
            told = {"name": "x", "source": name, "kind": kind} | ({"part": part} if part else {})
            recipe = Recipe.from_list([told])
            wanted = repr(prepare(recipe, json_says)["x"].tolist())
            assert repr(prepare(recipe, found)["x"].tolist()) == wanted, (name, part)
            assert repr(prepare(recipe, plain)["x"].tolist()) == wanted, (name, part)


FAULTS = {
    "past": ("integer", "out_of_range"),
    "endless": ("number", "out_of_range"),
    "nan": ("number", "out_of_range"),
    "fraction": ("integer", "type"),
    "cents": ("integer", "type"),
    "digits": ("integer", "out_of_range"),
    "late": ("datetime", "type"),
    "nul": ("string", "invalid_text"),
    "day": ("datetime", "type"),
    "gap": ("number", "null"),
}


def test_a_bad_value_of_every_type_is_pointed_at():
    inputs = signed({name: type_ for name, (type_, _) in FAULTS.items()})
    inputs[-1]["nullable"] = False
    with pytest.raises(Invalid) as refused:
        read_arrow((STREAMS / "faulty.arrows").read_bytes(), inputs, MOST_ROWS, MOST_TEXT)
    found = {error.pointer: error.code for error in refused.value.errors}
    assert found == {f"/rows/1/{place}": code for place, (_, code) in enumerate(FAULTS.values())}


@pytest.mark.parametrize("type_", ["integer", "number", "boolean", "string", "datetime"])
def test_a_type_that_would_have_to_be_guessed_at_is_refused(type_):
    data = (STREAMS / "refused.arrows").read_bytes()
    fields = ArrowStream(data, MOST_TEXT).fields
    with pytest.raises(Invalid) as refused:
        read_arrow(data, signed({field.name: type_ for field in fields}), MOST_ROWS, MOST_TEXT)
    told = [(error.pointer, error.code) for error in refused.value.errors]
    assert told == [(f"/columns/{place}", "type") for place in range(len(fields))]


def serves(name, type_):
    """Whether a column of pyarrow's is taken where that type is wanted."""
    types = {n: t for n, (t, _) in TYPES.items()} | {name: type_}
    try:
        read_arrow((STREAMS / "pyarrow.arrows").read_bytes(), signed(types), MOST_ROWS, MOST_TEXT)
    except Invalid as error:
        assert {fault.code for fault in error.errors} == {"type"}  # noqa: PT017 (told, not raised)
        return False
    return True


def test_numbers_serve_as_numbers_and_nothing_else_as_anything_else():
    for name, (own, _) in TYPES.items():
        taken = {
            other
            for other in ("integer", "number", "boolean", "string", "datetime")
            if serves(name, other)
        }
        numbers = {"integer", "number"} if name in WHOLE else {"number"}
        wanted = numbers if own in ("integer", "number") else {own}
        assert name == "nothing" or taken == wanted, name


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["mass"], [("/columns", "required")]),
        (["mass", "island", "wing"], [("/columns/2", "unknown_field")]),
        (["mass", "mass", "island"], [("/columns/1", "duplicate")]),
        (["Mass", "island"], [("/columns/0", "unknown_field"), ("/columns", "required")]),
    ],
)
@pytest.mark.parametrize("sent", [ARROW, CSV, JSON])
def test_names_are_checked_alike_in_all_forms(predicting, names, told, sent):
    body = {
        CSV: f"{','.join(names)}\n{','.join('1' for _ in names)}\n".encode(),
        JSON: json.dumps({"columns": names, "rows": [[1 for _ in names]]}).encode(),
        ARROW: stream_of({Name(name): np.array([1]) for name in names}),
    }[sent]
    problem = assert_problem(ask(predicting, body, sent, JSON), 422)
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == told


class Name(str):
    """A name that may stand twice in a mapping."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


SCORES = [
    Scores("classification", ["a", "b"], labels=np.array([1, 0]), probabilities=np.eye(2)),
    Scores("classification", [False, True], labels=np.array([1, 0])),
    Scores("classification", [1, 2], labels=np.array([1, 0]), probabilities=np.eye(2)),
    Scores("regression", values=np.array([0.5, 2.0])),
    Scores("clustering", clusters=np.array([3, 1])),
    Scores("outlier_detection", outliers=np.array([True, False]), unusual=np.array([0.5, -1])),
    Scores("decomposition", components=np.array([[1.0, 2.0], [3.0, 4.0]])),
]


@pytest.mark.parametrize("scores", SCORES, ids=lambda scores: scores.task)
def test_every_task_has_its_columns(scores):
    output = {"task": scores.task, "classes": scores.classes}
    output["probabilities"] = scores.probabilities is not None
    columns = output_columns(scores)
    again = output_columns(scores_of(scores.rows(), output))
    stream = ArrowStream(stream_of(columns), MOST_TEXT)
    assert list(again) == list(columns) == [field.name for field in stream.fields]
    for column in stream.read():
        name = column.field.name
        np.testing.assert_array_equal(array_of(column.values), columns[name])
        np.testing.assert_array_equal(again[name], columns[name])
    lines = csv_of(columns).decode().splitlines()
    assert lines[0] == ",".join(columns)
    assert len(lines) == 1 + len(scores)


def test_a_label_that_csv_would_take_for_something_else_is_quoted():
    scores = Scores("classification", ["NA", 'a,"b"'], labels=np.array([0, 1]))
    assert csv_of(output_columns(scores)) == b'prediction\n"NA"\n"a,""b"""\n'
