"""How a compiled model is stored: one zip file of JSON, numpy arrays and ONNX. No pickle.

``manifest.json`` has the recipe, the output, the tree of steps and the golden rows; where a step
has an array or bytes, it names the entry that holds them (``0.npy``, ``1.onnx``), where it has a
long list, the entries that hold its parts (``2.json``): while one of them is read, no other thread
runs. The same model always gives the same bytes.

A file is loaded only if its format version is this one, every entry is intact and within the
limits, and the model gives the golden answers again. So the libraries may be upgraded: the answers
decide, not the versions.
"""

import io
import json
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# Each module adds its kinds of steps to STEPS when it is imported.
from app.kernel.errors import Invalid, ServiceError
from app.scoring import (
    categories,
    cores,
    curves,
    encoder,
    ensembles,
    kernels,
    masks,
    neighbors,
    numbers,
    texts,
    trees,
)
from app.scoring.frame import Recipe
from app.scoring.model import CompiledModel, Golden
from app.scoring.step import STEPS, Step, stored_fields

FORMAT: Final = "modelyard-compiled"
FORMAT_VERSION: Final = 1
MAX_BYTES: Final = 2 * 1024**3
MAX_ENTRIES: Final = 50_000
LONG: Final = 10_000
"""A list of more values than this is stored in parts."""
MODULES: Final = (
    *(categories, cores, curves, encoder, ensembles, kernels, masks, neighbors, numbers, texts),
    trees,
)

_MANIFEST: Final = "manifest.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
# Measured: onnxruntime keeps trees in five times the bytes of their file, beside the file itself;
# names become Python strings in a table.
_GROWTH: Final[Mapping[str, int]] = {"onnx": 6, "json": 5}
_LEAST_MEMORY: Final = 50_000
_DTYPES: Final = frozenset({"<f8", "<i8", "<u4", "|b1"})


class NotLoadable(ServiceError):
    """A stored compiled model that cannot be used; the model is served by scikit-learn then."""

    code: ClassVar[str] = "not-loadable"
    title: ClassVar[str] = "The compiled model cannot be loaded"


def save(model: CompiledModel, *, compressed: bool = True) -> bytes:
    """The model as a file; uncompressed it is faster to make, for one that is not kept."""
    entries: dict[str, bytes] = {}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": model.recipe.as_list(),
        "output": dict(model.output),
        "widest": model.widest,
        "versions": dict(model.versions),
        "step": _packed(model.step, entries),
        "golden": None if model.golden is None else _packed_golden(model.golden, entries),
    }
    entries[_MANIFEST] = json.dumps(manifest, allow_nan=False, sort_keys=True).encode("ascii")
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = method
            archive.writestr(entry, content, compresslevel=1)
    return file.getvalue()


def load(data: bytes, *, max_bytes: int = MAX_BYTES) -> CompiledModel:
    """The model in a file that ``save`` made, checked with its golden rows.

    ``max_bytes`` bounds what the entries may add up to when they are unpacked. Raises
    ``NotLoadable`` for anything else than an intact file of this format version, or if the golden
    answers differ.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _Entries(archive, max_bytes)
            manifest = entries.json(_MANIFEST)
            if manifest.get("format") != FORMAT:
                raise NotLoadable("this is no compiled model")
            version = manifest.get("format_version")
            if version != FORMAT_VERSION:
                raise NotLoadable(f"format version {version}; this server reads {FORMAT_VERSION}")
            model = _unpacked_model(manifest, entries)
    except _DAMAGE as error:
        raise NotLoadable(f"the file is damaged: {error}") from error
    check_golden(model)
    return model


def memory_of(data: bytes) -> int:
    """About how many bytes a file that ``load`` has read takes when it is loaded."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _LEAST_MEMORY + sum(
            entry.file_size * _GROWTH.get(entry.filename.rpartition(".")[2], 1)
            for entry in archive.infolist()
        )


_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, Invalid),
)
"""What broken or crafted bytes make zipfile, json, numpy and the steps raise."""


class _Entries:
    """The entries of an archive, within the limits."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        listed = archive.infolist()
        names = {entry.filename for entry in listed}
        if len(listed) > MAX_ENTRIES or len(names) < len(listed):
            raise NotLoadable(f"{len(listed)} entries are too many, or some occur twice")
        total = sum(entry.file_size for entry in listed)
        if total > max_bytes:
            raise NotLoadable(f"unpacked it would be {total} bytes; the limit is {max_bytes}")
        self._archive = archive

    def content(self, name: str) -> bytes:
        """The whole entry; zipfile reads no more than its declared size, and checks its CRC."""
        return self._archive.read(name)

    def json(self, name: str) -> dict[str, Any]:
        """An entry that is a JSON object."""
        read = self._json(name)
        if not isinstance(read, dict):
            raise NotLoadable("the manifest is no object")
        return read

    def values(self, names: list[str]) -> list[Any]:
        """A list of plain values, from the entries that hold its parts."""
        values: list[Any] = []
        for name in names:
            part = self._json(name)
            if not _is_plain(part):
                raise ValueError(f"{name} is no list of plain values")
            values += part
        return values

    def _json(self, name: str) -> Any:
        return json.loads(self.content(name), parse_constant=_refuse_constant)

    def array(self, name: str) -> NDArray[Any]:
        """An entry that is a numpy array; it is not writeable."""
        content = self.content(name)
        file = io.BytesIO(content)
        if npy.read_magic(file) != (1, 0):
            raise ValueError(f"{name}: unknown version of the npy format")
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if dtype.str not in _DTYPES or fortran:
            raise ValueError(f"{name}: arrays of {dtype} are not expected")
        if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"{name}: the array has another size than its header says")
        return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _packed(value: Any, entries: dict[str, bytes]) -> Any:
    """The value as JSON; arrays and bytes go into ``entries``."""
    if isinstance(value, Step):
        names = stored_fields(type(value))
        return {"$step": value.kind, **{n: _packed(getattr(value, n), entries) for n in names}}
    if isinstance(value, np.ndarray):
        return {"$array": _added(_npy(value), "npy", entries)}
    if isinstance(value, bytes):
        return {"$onnx": _added(value, "onnx", entries)}
    if isinstance(value, list) and len(value) > LONG and _is_plain(value):
        return {"$list": _added_parts(value, entries)}
    if isinstance(value, list):
        return [_packed(item, entries) for item in value]
    if isinstance(value, (str, int, float)) or value is None:
        return value
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _npy(array: NDArray[Any]) -> bytes:
    if array.dtype.str not in _DTYPES:
        raise TypeError(f"arrays of {array.dtype} cannot be stored")
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def _is_plain(values: Any) -> bool:
    return isinstance(values, list) and all(
        value is None or isinstance(value, (str, int, float)) for value in values
    )


def _added_parts(values: list[Any], entries: dict[str, bytes]) -> list[str]:
    parts = [values[start : start + LONG] for start in range(0, len(values), LONG)]
    return [_added(json.dumps(part, allow_nan=False).encode(), "json", entries) for part in parts]


def _added(content: bytes, suffix: str, entries: dict[str, bytes]) -> str:
    name = f"{len(entries)}.{suffix}"
    entries[name] = content
    return name


def _unpacked(value: Any, entries: _Entries) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, entries) for item in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return entries.array(value["$array"])
    if "$onnx" in value:
        return entries.content(value["$onnx"])
    if "$list" in value:
        return entries.values(value["$list"])
    stored = dict(value)
    kind = STEPS[stored.pop("$step")]
    if set(stored) != set(stored_fields(kind)):
        raise ValueError(f"a step {kind.kind!r} has other fields")
    return kind(**{name: _unpacked(item, entries) for name, item in stored.items()})


def _packed_golden(golden: Golden, entries: dict[str, bytes]) -> dict[str, Any]:
    return {
        "columns": {name: list(values) for name, values in golden.columns.items()},
        "answers": {name: _packed(array, entries) for name, array in golden.answers.items()},
        "tolerance": golden.tolerance,
    }


def _unpacked_model(manifest: Mapping[str, Any], entries: _Entries) -> CompiledModel:
    step = _unpacked(manifest["step"], entries)
    if not isinstance(step, Step):
        raise TypeError("the model is no step")
    model = CompiledModel(
        recipe=Recipe.from_list(manifest["recipe"]),
        output=manifest["output"],
        step=step,
        widest=int(manifest["widest"]),
        versions=manifest["versions"],
    )
    golden = manifest["golden"]
    if golden is None:
        return model
    answers = {name: _unpacked(array, entries) for name, array in golden["answers"].items()}
    return replace(model, golden=Golden(golden["columns"], answers, float(golden["tolerance"])))


def check_golden(model: CompiledModel) -> None:
    """Raise ``NotLoadable`` unless the golden rows get their answers, together and alone."""
    if model.golden is None:
        return
    columns, tolerance = model.golden.columns, model.golden.tolerance
    try:
        together = model.score(columns).arrays()
        row = [values[0] for values in columns.values()]
        first = model.alone(tuple(columns)).scores(row).arrays()
    except _DAMAGE as error:
        raise NotLoadable(f"the golden rows cannot be scored: {error}") from error
    for name, expected in model.golden.answers.items():
        for given, wanted in ((together.get(name), expected), (first.get(name), expected[:1])):
            if given is None or not agree(given, wanted, tolerance):
                raise NotLoadable(f"the golden rows get other {name} than when it was compiled")


def agree(given: NDArray[Any], expected: NDArray[Any], tolerance: float) -> bool:
    """Whether two arrays of answers are the same, numbers within the tolerance."""
    if given.shape != expected.shape:
        return False
    if expected.dtype.kind == "f":
        return bool((np.abs(given - expected) <= tolerance).all())
    return bool((given == expected).all())
