"""A printed call is the call that is sent; a long answer is shortened."""

import json
import shlex

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.demo_calls import Call, Caller, DemoFailed, ProgressBar, shown

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_a_shell_reads_the_very_body_from_the_line(body):
    words = shlex.split(Call("POST", "/things", json=body).curl("http://h"))
    assert json.loads(words[words.index("-d") + 1]) == body
    assert words[words.index("-X") + 1] == "POST"


def test_a_file_alone_goes_raw_and_with_fields_as_a_form(tmp_path):
    table = tmp_path / "a table.csv"
    table.write_text("a\n1\n")
    raw = Call("POST", "/versions", file=str(table))
    form = Call("POST", "/datasets", form={"name": "t"}, file=str(table))
    assert shlex.split(raw.curl(""))[-2:] == ["--data-binary", f"@{table}"]
    assert shlex.split(form.curl(""))[-4:] == ["-F", "name=t", "-F", f"file=@{table};type=text/csv"]
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        sent.append(request)
        return httpx.Response(200)

    with httpx.Client(base_url="http://h", transport=httpx.MockTransport(answer)) as client:
        raw.send(client)
        form.send(client)
    assert (sent[0].headers["Content-Type"], sent[0].content) == ("text/csv", b"a\n1\n")
    assert b'name="name"\r\n\r\nt\r\n' in sent[1].content
    assert b'filename="a table.csv"\r\nContent-Type: text/csv\r\n\r\na\n1\n' in sent[1].content


def test_another_status_than_promised_fails_and_tells_the_answer(capsys):
    transport = httpx.MockTransport(lambda _: httpx.Response(404, text="gone"))
    told = "answered 404 instead of 200 or 201: gone"
    with (
        httpx.Client(base_url="http://h", transport=transport) as client,
        pytest.raises(DemoFailed, match=told),
    ):
        Caller(client).ask(Call("GET", "/x"), 200, 201)
    assert "gone" in capsys.readouterr().out


def test_a_server_that_says_later_is_asked_again():
    answers = iter(
        [httpx.Response(503, headers={"Retry-After": "0"}), httpx.Response(201, json={})]
    )
    transport = httpx.MockTransport(lambda _: next(answers))
    with httpx.Client(base_url="http://h", transport=transport) as client:
        assert Caller(client).ask(Call("POST", "/x", json={}), 201).status_code == 201


def test_patience_ends_when_later_is_too_late(monkeypatch):
    monkeypatch.setattr("app.demo_calls.PATIENCE_SECONDS", 0.0)
    transport = httpx.MockTransport(lambda _: httpx.Response(429))
    with (
        httpx.Client(base_url="http://h", transport=transport) as client,
        pytest.raises(DemoFailed, match="answered 429 instead of 200"),
    ):
        Caller(client).send(Call("GET", "/x"), 200)


def test_no_answer_at_all_fails():
    with (
        httpx.Client(base_url="http://127.0.0.1:1", trust_env=False) as client,
        pytest.raises(DemoFailed, match="no answer"),
    ):
        Call("GET", "/x").send(client)


@given(VALUES)
def test_what_is_shown_is_json_that_says_what_was_left_out(value):
    read = json.loads(shown(value))
    if isinstance(value, list) and len(value) > 2:
        assert read[-1] == f"… {len(value) - 2} more"
    if isinstance(value, dict):
        assert set(read) == set(value)


def test_a_long_answer_stays_on_a_page():
    columns = [{"name": f"c{i}", "histogram": {"bins": list(range(50))}} for i in range(500)]
    text = shown({"columns": columns, "digest": "0" * 500})
    assert len(text.splitlines()) < 20
    assert max(map(len, text.splitlines())) < 120


def test_progress_off_a_terminal_is_a_line_per_change(capsys):
    bar = ProgressBar()
    running = {"state": "running", "progress": {"fraction": 0.5, "message": "fitting"}}
    for run in (running, running, {"state": "succeeded", "progress": None}):
        bar.show(run)
    bar.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[1].split()[:2] for line in lines] == [
        ["50%", "running"],
        ["100%", "succeeded"],
    ]
