"""Loads a fitted scikit-learn object from the bytes of a joblib file, and nothing else.

The caller has read the bytes once and checked their digest and their signature. What is refused
here is what a forged file could still do if those keys were lost: name a function outside
``loader_allowed``, change a class, or describe an array that reaches into foreign memory.
``joblib.load`` is never called, because it calls whatever a file names.

For scorer and training processes: this is the one module of ``scoring`` that imports scikit-learn.
"""

import importlib
import io
import pickle
import zlib
from contextlib import suppress
from typing import Any, BinaryIO, Final

import numpy as np
import sklearn
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from joblib.numpy_pickle_utils import Unpickler
from sklearn.base import BaseEstimator
from sklearn.preprocessing import FunctionTransformer

from app.kernel.artifacts.store import ArtifactCorrupt
from app.kernel.errors import Conflict, ServiceError, Unavailable
from app.scoring.loader_allowed import ALLOWED

MAX_BYTES: Final = 4 << 30
_PICKLE, _ZLIB = b"\x80", b"\x78"


class ArtifactVersionMismatch(Conflict):
    """The model was trained with another minor version of scikit-learn than this server has."""

    code, title = "artifact-version-mismatch", "Trained with another scikit-learn"


class UntrustedArtifact(ArtifactCorrupt):
    """The file holds what no model of ours holds."""

    code, title = "untrusted-artifact", "The stored artifact is not one of ours"


def load_sklearn(
    data: bytes, *, expected_sklearn_minor: str, max_bytes: int = MAX_BYTES
) -> BaseEstimator:
    """The estimator in a joblib file, plain or compressed by zlib.

    ``expected_sklearn_minor`` is what the model's row says ("1.9"); ``max_bytes`` bounds the file
    after decompression. Raises ArtifactVersionMismatch, UntrustedArtifact, ArtifactCorrupt, and
    Unavailable when the memory does not suffice.
    """
    if expected_sklearn_minor != minor_of(sklearn.__version__):
        raise _mismatch(expected_sklearn_minor)
    try:
        loaded = _SklearnUnpickler(_opened(data, max_bytes)).load()
    except ServiceError:
        raise
    except MemoryError as error:
        raise Unavailable("There is not enough memory to load the model") from error
    except Exception as error:
        # Broken bytes can make unpickling raise anything.
        raise ArtifactCorrupt(f"it cannot be read ({type(error).__name__})") from error
    if not isinstance(loaded, BaseEstimator):
        raise UntrustedArtifact("it holds no estimator")
    return loaded


def import_all() -> None:
    """Import every module that a model may name: afterwards loading one needs no import."""
    for module in ALLOWED:
        # A listed module that this scikit-learn doesn't have is told of when a model names it.
        with suppress(ImportError):
            importlib.import_module(module)


def minor_version() -> str:
    """The minor version of the scikit-learn that is installed: "1.9"."""
    return minor_of(sklearn.__version__)


class _Guards:
    """The checks on what an unpickler looks up, calls and fills; in front of an unpickler."""

    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        """Only what is listed, by its own name in its own module: a dotted name is never listed."""
        if name not in ALLOWED.get(module, ()):
            raise UntrustedArtifact(f"it names {module[:80]}.{name[:80]}")
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return _ArrayWrapper
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ArtifactVersionMismatch(
                f"The model needs {module}.{name}, which this server's libraries do not have: "
                "train it again"
            ) from error

    def load_reduce(self) -> None:
        _check_call(self.stack[-2], self.stack[-1])
        super().load_reduce()  # type: ignore[misc]

    def load_newobj(self) -> None:
        _check_call(self.stack[-2], self.stack[-1])
        super().load_newobj()  # type: ignore[misc]

    def load_newobj_ex(self) -> None:
        _check_call(self.stack[-3], self.stack[-2])
        super().load_newobj_ex()  # type: ignore[misc]

    def load_build(self) -> None:
        target, state = self.stack[-2], self.stack[-1]
        if hasattr(target, "__name__"):
            raise UntrustedArtifact("it changes a class or a function")
        if isinstance(target, BaseEstimator):
            _check_version(state)
            if isinstance(target, FunctionTransformer) and state.get("func") is not None:
                raise UntrustedArtifact("it calls a function on the rows")
        super().load_build()  # type: ignore[misc]
        if isinstance(target, np.dtype):
            _check_dtype(target)

    def load_refused(self) -> None:
        raise UntrustedArtifact("it uses an operation that no file of ours uses")


_GUARDED = {
    pickle.REDUCE[0]: _Guards.load_reduce,
    pickle.NEWOBJ[0]: _Guards.load_newobj,
    pickle.NEWOBJ_EX[0]: _Guards.load_newobj_ex,
    pickle.BUILD[0]: _Guards.load_build,
    **dict.fromkeys(
        (
            operation[0]
            for operation in (
                *(pickle.OBJ, pickle.INST, pickle.PERSID, pickle.BINPERSID, pickle.NEXT_BUFFER),
                *(pickle.EXT1, pickle.EXT2, pickle.EXT4),
            )
        ),
        _Guards.load_refused,
    ),
}


class _SklearnUnpickler(_Guards, NumpyUnpickler):  # type: ignore[misc]
    """Joblib's unpickler with the guards in front."""

    dispatch = {**NumpyUnpickler.dispatch, **_GUARDED}  # noqa: RUF012 - as in the base class

    def __init__(self, file: BinaryIO) -> None:
        super().__init__("", file, ensure_native_byte_order=True)


class _ObjectsUnpickler(_Guards, Unpickler):  # type: ignore[misc]
    """The same for the plain pickle that an array of objects is stored as."""

    dispatch = {**Unpickler.dispatch, **_GUARDED}  # noqa: RUF012 - as in the base class


class _ArrayWrapper(NumpyArrayWrapper):  # type: ignore[misc]
    """Joblib's stand-in for an array; its nested pickle goes through the guards as well."""

    def read_array(self, unpickler: Any, ensure_native_byte_order: bool) -> Any:
        if self.dtype.hasobject:
            return _ObjectsUnpickler(unpickler.file_handle).load()
        return super().read_array(unpickler, ensure_native_byte_order)


def _check_call(called: Any, arguments: Any) -> None:
    """Refuse to make arrays over foreign bytes, and types from anything but their short name."""
    if isinstance(called, type) and issubclass(called, np.ndarray):
        raise UntrustedArtifact("it makes an array in an unusual way")
    if called is np.dtype and not (arguments and isinstance(arguments[0], str)):
        raise UntrustedArtifact("it makes an array type in an unusual way")


def _check_dtype(dtype: "np.dtype[Any]") -> None:
    """Refuse a dtype whose state claims other sizes, or other objects, than its fields have.

    Numpy believes the state: without this, bytes could be taken for pointers to objects.
    """
    described: Any = dtype.str
    if dtype.fields is not None:
        fields = [dtype.fields[name] for name in dtype.names or ()]
        for field in fields:
            _check_dtype(field[0])
        described = {
            "names": dtype.names,
            "formats": [field[0] for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
    elif dtype.subdtype is not None:
        _check_dtype(dtype.subdtype[0])
        described = dtype.subdtype
    honest = np.dtype(described)
    if (honest.itemsize, honest.hasobject) != (dtype.itemsize, dtype.hasobject):
        raise UntrustedArtifact("it describes an array wrongly")


def _check_version(state: Any) -> None:
    """Refuse an estimator of another minor; one of another patch release is as good as ours."""
    version = state.get("_sklearn_version") if isinstance(state, dict) else None
    if not isinstance(version, str) or minor_of(version) != minor_of(sklearn.__version__):
        raise _mismatch(minor_of(version) if isinstance(version, str) else "an unknown version")
    state["_sklearn_version"] = sklearn.__version__


def _mismatch(version: str) -> ArtifactVersionMismatch:
    here = minor_of(sklearn.__version__)
    return ArtifactVersionMismatch(
        f"The model was trained with scikit-learn {version[:20]}, this server has {here}: "
        "train it again"
    )


def minor_of(version: str) -> str:
    """``1.9.1`` -> ``1.9``."""
    return ".".join(version.split(".")[:2])


def _opened(data: bytes, max_bytes: int) -> BinaryIO:
    if data.startswith(_ZLIB):
        return io.BufferedReader(_Inflated(data, max_bytes), 1 << 20)
    if not data.startswith(_PICKLE):
        raise ArtifactCorrupt("it is no joblib file")
    if len(data) > max_bytes:
        raise UntrustedArtifact("it is too large")
    return io.BytesIO(data)


class _Inflated(io.RawIOBase):
    """A zlib stream as it expands, up to a limit."""

    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._rest: bytes | memoryview = memoryview(data)
        self._left = max_bytes
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; raises UntrustedArtifact past the limit."""
        piece = self._inflate.decompress(self._rest, len(buffer))
        self._rest = self._inflate.unconsumed_tail
        self._left -= len(piece)
        if self._left < 0:
            raise UntrustedArtifact("it expands to too many bytes")
        buffer[: len(piece)] = piece
        return len(piece)
