"""Forms read as they arrive: whole, cut short, mangled, hostile."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel.errors import Invalid, Malformed, ServiceError, TooLarge
from app.kernel.http.multipart import FormReader

BOUNDARY = "----frontier"
TEXTS = frozenset({"name", "description", "columns"})


def part(name, content, extra=""):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def file_part(content, filename="t.csv"):
    return part("file", content, f'; filename="{filename}"')


def form(*parts):
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def read(body, boundary=BOUNDARY, size=65536):
    written = bytearray()
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    found = FormReader(TEXTS, written.extend).read(pieces, boundary)
    return found, bytes(written)


def test_texts_are_kept_and_the_file_is_written():
    found, written = read(form(part("name", b"penguins"), file_part(b"a,b\r\n1,2\r\n")))
    assert found.texts == {"name": "penguins"}
    assert (found.filename, written) == ("t.csv", b"a,b\r\n1,2\r\n")


@given(content=st.binary(max_size=300), size=st.integers(1, 64))
def test_any_file_arrives_as_it_is_however_it_is_cut(content, size):
    _, written = read(form(part("name", b"x"), file_part(content)), size=size)
    assert written == content


@given(junk=st.binary(max_size=400), size=st.integers(1, 64))
@settings(max_examples=200)
def test_junk_is_refused_and_never_breaks(junk, size):
    with pytest.raises(ServiceError):
        read(b"--" + BOUNDARY.encode() + b"\r\n" + junk, size=size)


@given(cut=st.integers(0, 160))
def test_a_form_cut_short_is_malformed(cut):
    whole = form(part("name", b"penguins"), file_part(b"a\n1\n"))
    assert len(whole) > 165
    with pytest.raises(Malformed):
        read(whole[:cut])


@pytest.mark.parametrize("boundary", [None, "", "b" * 200_000, "ü"])
def test_a_form_without_a_usable_boundary_is_malformed(boundary):
    with pytest.raises(Malformed):
        read(form(file_part(b"a\n1\n")), boundary=boundary)


def test_a_body_without_the_boundary_is_malformed():
    with pytest.raises(Malformed):
        read(b"a,b\n1,2\n", boundary="other")


@pytest.mark.parametrize(
    ("parts", "pointer", "code"),
    [
        ([part("name", b"x")], "/file", "required"),
        ([part("file", b"a\n1\n")], "/file", "invalid"),
        ([file_part(b"a"), file_part(b"b")], "/file", "twice"),
        ([part("name", b"x"), part("name", b"y"), file_part(b"a")], "/name", "twice"),
        ([part("nam", b"x"), file_part(b"a")], "/nam", "unknown_field"),
        ([part("name", b"\xff"), file_part(b"a")], "/name", "invalid_text"),
    ],
)
def test_parts_that_are_missing_unknown_or_twice_are_named(parts, pointer, code):
    with pytest.raises(Invalid) as refused:
        read(form(*parts))
    assert [(found.pointer, found.code) for found in refused.value.errors] == [(pointer, code)]


def test_the_second_file_is_never_written():
    written = bytearray()
    body = form(file_part(b"first"), file_part(b"second"))
    with pytest.raises(Invalid):
        FormReader(TEXTS, written.extend).read([body], BOUNDARY)
    assert written == b"first"


def test_too_many_parts_are_too_large():
    with pytest.raises(TooLarge):
        read(form(*(part(f"p{number}", b"") for number in range(1001))))


def test_a_long_text_is_too_large():
    with pytest.raises(TooLarge):
        read(form(part("description", b"x" * 600_000), file_part(b"a")))


def test_endless_headers_are_too_large():
    with pytest.raises(TooLarge):
        read(f"--{BOUNDARY}\r\nX: ".encode() + b"y" * 1_000_000)


@pytest.mark.parametrize(
    "content", [b"\r" + b"x" * 20_000_000, b"\r\n-" * 6_000_000], ids=["cr", "crlf-"]
)
def test_content_like_a_boundary_costs_no_time(content):
    started = time.perf_counter()
    _, written = read(form(file_part(content)))
    assert len(written) == len(content)
    assert time.perf_counter() - started < 15


def test_a_junk_preamble_is_not_read_to_its_end():
    def endless():
        while True:
            yield b"x" * 65536

    with pytest.raises(Malformed):
        FormReader(TEXTS, bytes).read(endless(), BOUNDARY)


def test_a_line_that_only_begins_like_the_boundary_is_malformed():
    with pytest.raises(Malformed):
        read(form(file_part(f"a\r\n--{BOUNDARY}x\r\n1".encode())))


@pytest.mark.parametrize("disposition", ["form-data", 'attachment; name="file"', ""])
def test_a_part_without_a_name_is_malformed(disposition):
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    with pytest.raises(Malformed):
        read(form(head + b"x\r\n"))


def test_a_file_name_in_extended_notation_is_read():
    body = form(part("file", b"a\n1\n", "; filename*=UTF-8''..%2f..%2f%C3%BCber.csv"))
    assert read(body)[0].filename == "../../über.csv"
