"""Our joblib files load; no byte of a forged one is ever called."""

import io
import pickle
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn.base
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from app.kernel.artifacts.store import ArtifactCorrupt
from app.kernel.errors import ServiceError, Unavailable
from app.scoring.loader import (
    ArtifactVersionMismatch,
    UntrustedArtifact,
    load_sklearn,
    minor_version,
)
from app.scoring.loader_allowed import ALLOWED
from tests.scoring import fitted_catalogue
from tests.scoring.fitted_catalogue import dumped, fitted, frame

MINOR = minor_version()
PROTOCOL_4 = b"\x80\x04"


def load(data: bytes, **options: Any) -> Any:
    return load_sklearn(data, expected_sklearn_minor=MINOR, **options)


def small_model() -> Pipeline:
    rows = np.arange(20.0).reshape(10, 2)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, ["a", "b"] * 5)


SMALL = dumped(small_model())


class Reduced:
    """Pickled as a call of anything."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


@pytest.mark.parametrize("name", fitted_catalogue.catalogue())
def test_every_estimator_of_the_catalogue_loads_and_answers_the_same(name: str) -> None:
    for number in range(len(fitted_catalogue.targets(fitted_catalogue.task_of(name)))):
        model = fitted(next(fitted_catalogue.variants(name)), name, number)
        again = load(dumped(model, compress=3 * number))
        answer = model.predict if hasattr(model, "predict") else model.transform
        answer_again = again.predict if hasattr(model, "predict") else again.transform
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before, after = answer(frame()), answer_again(frame())
        if before.dtype.kind == "f":
            # A view in another memory order may be summed up in another order.
            np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)
        else:
            np.testing.assert_array_equal(after, before)


@pytest.mark.slow
def test_the_list_is_just_what_the_catalogue_needs() -> None:
    found = fitted_catalogue.all_globals()
    assert found == {module: sorted(names) for module, names in ALLOWED.items()}


def test_nothing_on_the_list_is_a_way_to_call_anything() -> None:
    assert {module.split(".")[0] for module in ALLOWED} == {
        *("builtins", "joblib", "numpy", "scipy", "sklearn")
    }
    assert ALLOWED["builtins"] == {"slice"}
    assert ALLOWED["joblib.numpy_pickle"] == {"NumpyArrayWrapper"}
    assert not any("." in name for names in ALLOWED.values() for name in names)
    assert not any("_testing" in module or "datasets" in module for module in ALLOWED)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def looked_up(module: str, name: str, *arguments: str) -> bytes:
    """A protocol 4 pickle that calls ``module.name`` with strings."""
    texts = [b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)]
    given = b"".join(b"X" + len(a).to_bytes(4, "little") + a.encode() for a in arguments)
    return PROTOCOL_4 + b"".join(texts) + b"\x93(" + given + b"tR."


CALLS = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("builtins", "slice.__class__"),
    ("operator", "methodcaller"),
    ("functools", "partial"),
    ("copyreg", "_reconstructor"),
    ("importlib", "import_module"),
    ("joblib", "load"),
    ("joblib.numpy_pickle", "load"),
    ("pickle", "loads"),
    ("numpy", "load"),
    ("numpy", "f2py.os.system"),
    ("numpy", "ndarray.tofile"),
    ("numpy.testing._private.utils", "runstring"),
    ("scipy._lib._util", "os.system"),
    ("sklearn.datasets._base", "os.system"),
    ("sklearn.pipeline", "Pipeline.fit"),
    ("sklearn.pipeline", "joblib.load"),
    ("sklearn.utils._testing", "os.system"),
    ("sklearn.utils.metaestimators", "attrgetter"),
    ("", "system"),
    ("os.", "system"),
]


@pytest.mark.parametrize(("module", "name"), CALLS)
def test_a_name_that_is_not_listed_is_never_looked_up(canary: Path, module: str, name: str) -> None:
    with pytest.raises(UntrustedArtifact, match="names") as raised:
        load(looked_up(module, name, f"touch {canary}"))
    assert f"{module}.{name}" in raised.value.detail
    assert (raised.value.status, raised.value.retryable) == (503, False)
    assert not canary.exists()


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize(
    "hide",
    [
        lambda evil: evil,
        lambda evil: [evil],
        lambda evil: {"a": (evil,)},
        lambda evil: np.array([evil, None], dtype=object),
        lambda evil: np.array([np.array([[evil]], dtype=object), 1], dtype=object),
        lambda evil: np.array([([evil],)], dtype=[("a", object)]),
    ],
)
def test_a_call_is_found_wherever_it_hides(
    canary: Path, hide: Callable[[Any], Any], compress: int
) -> None:
    import os  # noqa: PLC0415 - what the attacker wants

    model = small_model()
    model.named_steps["standardscaler"].mean_ = hide(Reduced(os.system, (f"touch {canary}",)))
    with pytest.raises(UntrustedArtifact, match=r"posix\.system"):
        load(dumped(model, compress=compress))
    assert not canary.exists()


OPCODES = {
    "global of protocol 0": b"\x80\x02cposix\nsystem\n(X\x01\x00\x00\x00atR.",
    "inst": b"\x80\x02(X\x01\x00\x00\x00aiposix\nsystem\n.",
    "inst of a listed name": b"\x80\x02(ibuiltins\nslice\n.",
    "obj": b"\x80\x02(cbuiltins\nslice\nK\x01o.",
    "persistent id": b"\x80\x02Pabc\n.",
    "binary persistent id": b"\x80\x02K\x01Q.",
    "extension 1": b"\x80\x02\x82\x01.",
    "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "buffer from outside": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("data", OPCODES.values(), ids=OPCODES)
def test_operations_that_no_file_of_ours_uses_are_refused(data: bytes) -> None:
    with pytest.raises(UntrustedArtifact):
        load(data)


def test_a_class_cannot_be_changed() -> None:
    """BUILD with a slot state is ``setattr``, also on a class."""
    change = b"\x80\x02csklearn.pipeline\nPipeline\n(N}X\x07\x00\x00\x00predictNstb."
    with pytest.raises(UntrustedArtifact, match="changes a class"):
        load(change)
    function = change.replace(b"Pipeline", b"_name_estimators")
    with pytest.raises(UntrustedArtifact):
        load(function)
    assert Pipeline.predict is not None


FORGED_FIELDS = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
FAR_FIELD = (3, "|", None, ("a",), {"a": (np.dtype("f8"), 100)}, 8, 1, 0)
FORGERIES = {
    "objects over bytes": Reduced(np.ndarray, ((1,), np.dtype("O"), b"\x41" * 8)),
    "objects told to be none": Reduced(np.dtype, ("V8", False, True), FORGED_FIELDS),
    "a field outside": Reduced(np.dtype, ("V8", False, True), FAR_FIELD),
    "a type from a list": Reduced(np.dtype, ([("a", "O")],)),
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("hide", [lambda it: [it], lambda it: np.array([it, 0], dtype=object)])
def test_an_array_cannot_reach_into_foreign_memory(
    forged: Reduced, hide: Callable[[Any], Any]
) -> None:
    with pytest.raises(ArtifactCorrupt):
        load(dumped(hide(forged)))


def test_an_array_cannot_be_made_by_its_class_without_a_call() -> None:
    data = PROTOCOL_4 + b"\x8c\x05numpy\x8c\x07ndarray\x93K\x01\x85\x81."
    with pytest.raises(UntrustedArtifact, match="unusual way"):
        load(data)


def test_structured_and_object_arrays_of_ours_are_not_taken_for_forged() -> None:
    model = small_model()
    model.named_steps["standardscaler"].kept_ = [
        np.array([(1, 2.5, "x")], dtype=[("a", "i4"), ("b", "f8"), ("c", "U3")]),
        np.zeros(2, dtype=np.dtype([("a", "u1"), ("b", "f8")], align=True)),
        np.zeros(2, dtype=[("a", "f4", (2, 3))]),
        np.array([("x", 1.0)], dtype=object),
        np.array(["2020-01-01"], dtype="M8[us]"),
        np.array([True, False]),
    ]
    kept = load(dumped(model)).named_steps["standardscaler"].kept_
    for before, after in zip(model.named_steps["standardscaler"].kept_, kept, strict=True):
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype


def test_no_function_is_called_on_rows() -> None:
    model = make_pipeline(FunctionTransformer(np.sin), LogisticRegression())
    with pytest.raises(UntrustedArtifact):
        load(dumped(model))
    hidden = make_pipeline(FunctionTransformer(np.ndarray), LogisticRegression())
    with pytest.raises(UntrustedArtifact, match="calls a function"):
        load(dumped(hidden))


def test_a_bomb_goes_off_at_the_limit() -> None:
    bomb = zlib.compress(dumped(np.zeros(5_000_000)), 9)
    assert len(bomb) < 60_000
    with pytest.raises(UntrustedArtifact, match="expands"):
        load(bomb, max_bytes=1_000_000)
    with pytest.raises(UntrustedArtifact, match="too large"):
        load(dumped(np.zeros(30_000)), max_bytes=10_000)


def test_an_array_that_claims_more_than_memory_is_refused() -> None:
    small, huge = b"K\x03\x85", b"\x8a\x06\xff\xff\xff\xff\xff\x0f\x85"
    data = dumped(np.zeros(3))
    assert small in data
    with pytest.raises((ArtifactCorrupt, Unavailable)):
        load(data.replace(small, huge, 1))


@pytest.mark.parametrize("method", ["gzip", "bz2", "lzma", "xz"])
def test_other_compressions_are_not_ours(method: str) -> None:
    buffer = io.BytesIO()
    joblib.dump(small_model(), buffer, compress=(method, 3))
    with pytest.raises(ArtifactCorrupt, match="no joblib file"):
        load(buffer.getvalue())


@pytest.mark.parametrize("data", [b"", b"x", b"ZF0x10", b"\x80", PROTOCOL_4, b"\x78\x9cx", b"}."])
def test_rubbish_is_corrupt(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        load(data)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(SMALL) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_bytes_load_or_are_refused(at: int, value: int, cut: bool) -> None:
    damaged = SMALL[:at] if cut else SMALL[:at] + bytes([value]) + SMALL[at + 1 :]
    try:
        assert isinstance(load(damaged), sklearn.base.BaseEstimator)
    except ServiceError as error:
        assert error.status in {409, 503}  # noqa: PT017 - either outcome is right


def test_what_is_no_estimator_is_refused() -> None:
    for thing in ([1, 2], np.zeros(3), slice(1), None):
        with pytest.raises(UntrustedArtifact, match="no estimator"):
            load(dumped(thing))
    with pytest.raises(UntrustedArtifact, match=r"sklearn\.pipeline\.FeatureUnion"):
        load(pickle.dumps(sklearn.pipeline.FeatureUnion))


def test_another_minor_version_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactVersionMismatch, match=r"1\.8.*train it again") as raised:
        load_sklearn(SMALL, expected_sklearn_minor="1.8")
    assert (raised.value.status, raised.value.code) == (409, "artifact-version-mismatch")
    for version in ("1.8.2", "2.0.0", "nonsense"):
        monkeypatch.setattr(sklearn.base, "__version__", version)
        data = dumped(small_model())
        monkeypatch.undo()
        with pytest.raises(ArtifactVersionMismatch, match="train it again"):
            load(data)


def test_a_listed_name_that_another_library_version_had_is_a_conflict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(sklearn.preprocessing._data, "StandardScaler")
    with pytest.raises(ArtifactVersionMismatch, match="train it again"):
        load(SMALL)


def test_another_patch_release_is_as_good_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn.base, "__version__", f"{MINOR}.99")
    data = dumped(small_model())
    monkeypatch.undo()
    assert load(data).predict([[0.0, 1.0]]).tolist() == ["a"]
