"""Files that are no skops files, or name what no model holds, are refused before they can act."""

import io
import json
import os
import pickle
import struct
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kernel.errors import ServiceError, TooLarge
from app.models.skops.archive import ArchiveLimits
from tests.models.skops_files import GOOD, Importer, array, rewritten


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


# What isn't a skops file at all.


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("compress", [None, 0, 3])
def test_a_pickle_by_another_name_is_not_a_skops_zip(
    importer: Importer, tmp_path: Path, compress: int | None
) -> None:
    evil, buffer = Evil(tmp_path / "canary"), io.BytesIO()
    if compress is None:
        buffer.write(pickle.dumps(evil))
    else:
        joblib.dump(evil, buffer, compress=compress)
    error = importer.refuse(buffer.getvalue())
    assert error.errors[0].code == "not_skops"
    assert "not a skops zip" in error.detail
    assert not (tmp_path / "canary").exists()


def with_entry(info: zipfile.ZipInfo | str, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO(GOOD)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(info, content)
    return buffer.getvalue()


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("123.npy")
    info.external_attr = 0o120777 << 16
    return info


def _encrypted() -> bytes:
    data = bytearray(GOOD)
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def _many(entries: int, said: int) -> bytes:
    header = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, 5, *[0] * 6) + b"1.npy"
    directory = header * entries
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, said, said, len(directory), 4, 0)
    return b"PK\x03\x04" + directory + end


BROKEN_ZIPS = {
    "traversal": (with_entry("../../x"), "unknown_entry"),
    "absolute": (with_entry("/etc/cron.d/x"), "unknown_entry"),
    "windows": (with_entry("..\\x"), "unknown_entry"),
    "folder": (with_entry("1/"), "unknown_entry"),
    "sparse": (with_entry("1.npz"), "unknown_entry"),
    "bytes": (with_entry("1.bin"), "unknown_entry"),
    "zero byte": (with_entry("1.npyQ.txt").replace(b"npyQ", b"npy\0"), "unknown_entry"),
    "schema twice": (with_entry("schema.json", b"{}"), "duplicate_entry"),
    "link": (with_entry(_link()), "unknown_entry"),
    "encrypted": (_encrypted(), "encrypted_entry"),
    "no schema": (GOOD.replace(b"schema.json", b"1234567.npy"), "not_skops"),
    "million entries": (_many(1_000_000, 1), "too_many_entries"),
    "million said": (_many(1, 65_535), "too_many_entries"),
    "cut": (GOOD[:-30], "broken_zip"),
    "appended": (GOOD + b"x" * 100, "broken_zip"),
    "prepended": (b"x" + GOOD, "not_skops"),
    "flipped": (GOOD.replace(b"NUMPY", b"NUMPX", 1), "broken_zip"),
    "bzip2": (rewritten(GOOD, compression=zipfile.ZIP_BZIP2), "broken_zip"),
    "lzma": (rewritten(GOOD, compression=zipfile.ZIP_LZMA), "broken_zip"),
    "empty": (b"", "not_skops"),
    "empty zip": (b"PK\x05\x06" + b"\0" * 18, "not_skops"),
}


@pytest.mark.parametrize(("data", "code"), BROKEN_ZIPS.values(), ids=BROKEN_ZIPS)
def test_a_zip_that_skops_did_not_write_is_refused(
    importer: Importer, tmp_path: Path, data: bytes, code: str
) -> None:
    started = time.monotonic()
    assert importer.refuse(data).errors[0].code == code
    assert time.monotonic() - started < 10
    assert [path.name for path in tmp_path.iterdir()] == ["model.skops"]


@pytest.mark.parametrize(
    "content",
    [
        array(np.array([Evil(Path("x"))], dtype=object), objects=True),
        array(np.zeros(3))[:-1],
        array(np.zeros(3)) + b"x",
        array(np.zeros(3)).replace(b"(3,)", b"(9,)"),
        array(np.zeros(3)).replace(b"(3,)", b"(-3)"),
        array(np.zeros(3)).replace(b"'<f8'", b"'|O8'"),
        array(np.zeros(3)).replace(b"'<f8'", b"exit"),
        array(np.zeros(3)).replace(b"NUMPY\x01", b"NUMPY\x09"),
        b"",
    ],
)
def test_a_broken_array_is_refused(importer: Importer, content: bytes) -> None:
    assert (
        importer.refuse(rewritten(GOOD, arrays={"1.npy": content})).errors[0].code == "broken_array"
    )


def test_a_bomb_is_measured_before_it_is_expanded(importer: Importer) -> None:
    bomb = rewritten(
        GOOD,
        arrays={"1.npy": array(np.zeros(4_000_000))},
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="expands"):
        importer.take(bomb, limits=ArchiveLimits(expanded=10_000_000))
    with pytest.raises(TooLarge, match="has more than"):
        importer.take(bomb, limits=ArchiveLimits(file=1000))
    with pytest.raises(TooLarge, match=r"schema\.json"):
        importer.take(bomb, limits=ArchiveLimits(schema=100))


def test_an_array_that_is_used_many_times_counts_many_times(
    importer: Importer,
) -> None:
    def multiply(schema: dict[str, Any]) -> None:
        node = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode"}
        node |= {"type": "numpy", "file": "1.npy"}
        many = [{**node, "__id__": 10**6 + number} for number in range(100)]
        schema["content"]["content"]["more"] = {**listed(*many), "__id__": 5}

    data = rewritten(GOOD, multiply, arrays={"1.npy": array(np.zeros(10_000))})
    error = importer.refuse(data, limits=ArchiveLimits(expanded=1_000_000))
    assert error.errors[0].code == "too_large"


# What a schema may not hold.


def node(loader: str, name: str, **rest: Any) -> dict[str, Any]:
    module, _, cls = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": cls, **rest}


def listed(*nodes: dict[str, Any]) -> dict[str, Any]:
    return node("ListNode", "builtins.list", content=list(nodes))


def plain(value: Any) -> dict[str, Any]:
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


ARGUMENTS = node("TupleNode", "builtins.tuple", content=[plain("touch canary")])
NO_ATTRIBUTES = node("DictNode", "builtins.dict", content={}, key_types=listed())
METHOD = {"func": "system", "obj": node("ObjectNode", "os.system", content=NO_ATTRIBUTES)}
PARTIAL = {
    "func": node("FunctionNode", "posix.system"),
    "args": ARGUMENTS,
    "kwds": NO_ATTRIBUTES,
    "namespace": plain(None),
}
GENERATOR = {
    "bit_generator": node(
        "DictNode",
        "builtins.dict",
        content={"bit_generator": plain("seed")},
        key_types=listed(node("TypeNode", "builtins.str")),
    ),
    "seed_seq": NO_ATTRIBUTES,
}
UNTRUSTED = [
    node("ObjectNode", "os.system", content=NO_ATTRIBUTES),
    node("ObjectNode", "builtins.eval"),
    node("ObjectNode", "sklearn.utils._testing.os.system"),
    node("ObjectNode", "sklearn.model_selection._search.GridSearchCV", content=NO_ATTRIBUTES),
    node("ObjectNode", "sklearn.tree._tree.Tree", content=NO_ATTRIBUTES),
    node("FunctionNode", "posix.system"),
    node("FunctionNode", "numpy.load"),
    node("FunctionNode", "scipy.special.expit"),
    node("TypeNode", "builtins.eval"),
    node("TypeNode", "builtins.map"),
    node("TypeNode", "numpy.ndarray"),
    node("MethodNode", "os.system", content=METHOD),
    node("MethodNode", "os.system", content={"func": "x"}),
    node("PartialNode", "functools.partial", content=PARTIAL),
    node("OperatorFuncNode", "operator.call", attrs=ARGUMENTS),
    node("OperatorFuncNode", "operator.methodcaller", attrs=ARGUMENTS),
    node("ConstructorFromReduceNode", "subprocess.Popen", content=ARGUMENTS),
    node("ConstructorFromReduceNode", "builtins.frozenset", content=ARGUMENTS),
    node("SparseMatrixNode", "scipy.sparse._csr.csr_matrix", type="scipy", file="1.npy"),
    node("BytesNode", "builtins.bytes", file="1.npy"),
    node("RandomGeneratorNode", "numpy.random._generator.Generator", content=GENERATOR),
    node("ReduceNode", "os.system", content=NO_ATTRIBUTES),
    node("NoSuchNode", "os.system"),
    node("CachedNode", "os.system", __id__=1),
    {"__loader__": "ObjectNode", "__class__": "system"},
    {"__loader__": ["ObjectNode"], "__module__": "os", "__class__": "system"},
    {"__loader__": "ObjectNode", "__module__": ["os"], "__class__": "system"},
]


@pytest.mark.parametrize("evil", UNTRUSTED, ids=lambda evil: str(evil)[:60])
@pytest.mark.parametrize("place", ["attribute", "dict key type", "whole", "hidden"])
def test_a_type_that_no_model_holds_is_named(
    importer: Importer, evil: dict[str, Any], place: str
) -> None:
    def edit(schema: dict[str, Any]) -> None:
        attributes = schema["content"]
        if place == "attribute":
            attributes["content"]["C"] = evil
        elif place == "dict key type":
            attributes["key_types"]["content"][0] = evil
        elif place == "hidden":
            attributes["content"]["C"]["beside"] = [{"deep": evil}]
        else:
            schema.update(evil)

    error = importer.refuse(rewritten(GOOD, edit))
    assert error.errors[0].code == "untrusted_type"
    assert f".{evil['__class__']}" in error.detail
    assert not Path("canary").exists()


def add_attribute(schema: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    attributes = schema["content"]
    attributes["content"][name] = value
    attributes["key_types"]["content"].append(node("TypeNode", "builtins.str"))


BROKEN_SCHEMAS: list[Callable[[dict[str, Any]], Any]] = [
    lambda schema: schema.update(protocol=0),
    lambda schema: schema.update(protocol=3),
    lambda schema: schema.update(protocol=True),
    lambda schema: schema.pop("protocol"),
    lambda schema: schema.pop("__class__"),
    lambda schema: schema.pop("__loader__"),
    lambda schema: schema.pop("content"),
    lambda schema: schema.update(content=None),
    lambda schema: schema["content"].pop("key_types"),
    lambda schema: schema["content"]["content"].pop("coef_"),
    lambda schema: schema["content"]["content"]["coef_"].update(file="999.npy"),
    lambda schema: schema["content"]["content"]["coef_"].update(file="../x"),
    lambda schema: schema["content"]["content"]["coef_"].update(file=["x"]),
    lambda schema: schema["content"]["content"]["coef_"].update(type="json"),
    lambda schema: add_attribute(schema, "predict", plain("x")),
    lambda schema: add_attribute(schema, "_parameter_constraints", plain({})),
    lambda schema: schema["content"]["content"]["coef_"].update(plain(None)),
    lambda schema: schema["content"]["content"]["n_features_in_"].update(content="10000000"),
    lambda schema: schema["content"]["content"]["classes_"].update(plain([1, 2])),
    lambda schema: schema["content"]["content"]["C"].update(
        node("SliceNode", "builtins.slice", content={"start": "x", "stop": 1, "step": None})
    ),
]


@pytest.mark.parametrize("edit", BROKEN_SCHEMAS)
def test_a_schema_that_does_not_fit_together_is_refused(
    importer: Importer, edit: Callable[[dict[str, Any]], Any]
) -> None:
    importer.refuse(rewritten(GOOD, edit))


@pytest.mark.parametrize("schema", [b"", b"[]", b"{", b'{"a": 1e', b"[" * 100_000, b"\xff"])
def test_a_schema_that_is_no_json_object_is_refused(importer: Importer, schema: bytes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", schema)
    assert importer.refuse(buffer.getvalue()).errors[0].code == "not_skops"


def _paths(item: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = item.items() if isinstance(item, dict) else enumerate(item)
    for key, value in children:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _paths(value, (*path, key))


SCHEMA = json.loads(zipfile.ZipFile(io.BytesIO(GOOD)).read("schema.json"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["1", "null"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(path=st.sampled_from(list(_paths(SCHEMA))), value=JSON)
def test_any_change_of_a_schema_is_taken_or_refused(
    importer: Importer, path: tuple[Any, ...], value: Any
) -> None:
    def edit(schema: Any) -> None:
        for key in path[:-1]:
            schema = schema[key]
        schema[path[-1]] = value

    try:
        importer.take(rewritten(GOOD, edit))
    except ServiceError as error:
        assert error.status in {413, 422}  # noqa: PT017 - either outcome is right
