"""A stored model loads only if it is whole, of this version, within the limits, and still right."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.scoring.cores import Affine, JudgeMany, JudgeTwo
from app.scoring.encoder import Numbers
from app.scoring.format import LONG, MODULES, NotLoadable, load, save
from app.scoring.frame import Recipe
from app.scoring.model import CompiledModel, Golden
from app.scoring.numbers import Impute, Scale
from app.scoring.step import STEPS, Chain, Step
from app.scoring.texts import CountTerms
from app.scoring.trees import TreeSums

RECIPE = Recipe.from_list([{"name": n, "source": n, "kind": "number"} for n in ("a", "é")])
OUTPUT = {"task": "classification", "classes": ["no", "yes"], "probabilities": True}
COLUMNS = {"a": [1.0, None, -3.5], "é": [2, 0, 2**53 + 1]}


def model() -> CompiledModel:
    nothing = np.empty(0, dtype=np.int64)
    steps: list[Step] = [
        Numbers([0, 1]),
        Impute(np.arange(2), np.array([0.5, 0.0]), nothing),
        Scale(np.array([0.1, 0.2]), None),
        Affine(np.array([[0.3], [-1e-17]]), np.array([0.1])),
        JudgeTwo("logistic"),
    ]
    return CompiledModel(RECIPE, OUTPUT, Chain(steps), 2, {"numpy": "2"})


def with_golden(made: CompiledModel) -> CompiledModel:
    answers = made.score(COLUMNS).arrays()
    return replace(made, golden=Golden(COLUMNS, answers, 1e-12))


SAVED = save(with_golden(model()))


def test_a_model_comes_back_with_the_same_answers_and_the_same_bytes():
    loaded = load(SAVED)
    assert loaded.score(COLUMNS).rows() == model().score(COLUMNS).rows()
    assert loaded.recipe == RECIPE
    assert loaded.output == OUTPUT
    assert loaded.versions == {"numpy": "2"}
    assert save(loaded) == SAVED


def test_arrays_that_were_loaded_cannot_be_changed():
    step = load(SAVED).step
    assert isinstance(step, Chain)
    affine = step.steps[3]
    assert isinstance(affine, Affine)
    with pytest.raises(ValueError, match="read-only"):
        affine.weights[0] = 1.0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SAVED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_changes_no_answer(place, difference):
    spoilt = bytearray(SAVED)
    spoilt[place] ^= difference
    try:
        loaded = load(bytes(spoilt))
    except NotLoadable:
        return
    assert loaded.score(COLUMNS).rows() == model().score(COLUMNS).rows()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SAVED) - 1))
def test_a_file_that_was_cut_off_is_refused(length):
    with pytest.raises(NotLoadable):
        load(SAVED[:length])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data):
    with pytest.raises(NotLoadable):
        load(data)


def rewritten(change: Callable[[dict[str, bytes]], None], data: bytes = SAVED) -> bytes:
    """The file with its entries changed, and whole again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def manifest_with(change: Callable[[dict[str, Any]], None]) -> bytes:
    def change_manifest(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries["manifest.json"])
        change(manifest)
        entries["manifest.json"] = json.dumps(manifest).encode()

    return rewritten(change_manifest)


def nested(depth: int) -> Any:
    step: Any = {"$step": "chain", "steps": []}
    for _ in range(depth):
        step = {"$step": "chain", "steps": [step]}
    return step


MANIFESTS = {
    "version": (lambda m: m.update(format_version=2), "format version 2; this server reads 1"),
    "format": (lambda m: m.update(format="other"), "no compiled model"),
    "no_step": (lambda m: m.pop("step"), "damaged: 'step'"),
    "unknown_step": (lambda m: m["step"].update({"$step": "os.system"}), "os.system"),
    "other_fields": (lambda m: m["step"].update(more=1), "'chain' has other fields"),
    "fewer_fields": (lambda m: m["step"].pop("steps"), "'chain' has other fields"),
    "not_a_step": (lambda m: m.update(step=[1, 2]), "the model is no step"),
    "recipe": (lambda m: m["recipe"][0].update(kind="pickle"), "unknown kind"),
    "missing_entry": (lambda m: m["step"]["steps"][2].update(shift={"$array": "9.npy"}), "9.npy"),
    "no_constant": (lambda m: m.update(widest=float("nan")), "NaN is no JSON"),
    "endless": (lambda m: m.update(step=nested(400)), "damaged"),
    "golden_label": (
        lambda m: m["golden"]["columns"].update(a=[1.0, None, 99.0]),
        "golden rows get other",
    ),
    "golden_type": (lambda m: m["golden"]["columns"].update(a=["x", "y", "z"]), "cannot be scored"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_not_ours_is_refused(name):
    change, told = MANIFESTS[name]
    with pytest.raises(NotLoadable, match=told):
        load(manifest_with(change))


def test_other_versions_of_libraries_refuse_nothing_while_the_golden_answers_are_the_same():
    loaded = load(manifest_with(lambda m: m.update(versions={"numpy": "99", "onnxruntime": "0"})))
    assert loaded.versions == {"numpy": "99", "onnxruntime": "0"}
    assert loaded.score(COLUMNS).rows() == model().score(COLUMNS).rows()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


HUGE = npy(np.zeros(2)).replace(b"'shape': (2,), }        ", b"'shape': (2**40,), }    ")
ARRAYS = {
    "pickled": npy(np.array([object], dtype=object), allow_pickle=True),
    "single": npy(np.zeros(2, dtype=np.float32)),
    "longer": npy(np.zeros(2)) + b"\0" * 8,
    "claimed": npy(np.zeros(2)).replace(b"(2,)", b"(9,)"),
    "huge": HUGE,
    "version": npy(np.zeros(2), version=(2, 0)),
    "garbage": b"not an array",
    "fortran": npy(np.asfortranarray(np.zeros((2, 2)))),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_is_not_ours_is_refused(name):
    with pytest.raises(NotLoadable, match="damaged"):
        load(rewritten(lambda entries: entries.update({"0.npy": ARRAYS[name]})))


def test_a_weight_that_was_changed_and_packed_again_is_noticed_by_the_golden_rows():
    def heavier(entries: dict[str, bytes]) -> None:
        for name, content in entries.items():
            entries[name] = content.replace(np.float64(0.3).tobytes(), np.float64(0.4).tobytes())

    with pytest.raises(NotLoadable, match="golden rows get other probabilities"):
        load(rewritten(heavier))


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = rewritten(lambda entries: entries.update({"bomb": bytes(50_000_000)}))
    assert len(bomb) < 60_000
    with pytest.raises(NotLoadable, match="the limit is 10000000"):
        load(bomb, max_bytes=10_000_000)


def test_an_entry_that_is_there_twice_is_refused():
    file = io.BytesIO(SAVED)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("manifest.json", "{}")
    with pytest.raises(NotLoadable, match="twice"):
        load(file.getvalue())


def test_trees_that_onnxruntime_cannot_read_are_refused():
    broken = TreeSums.__new__(TreeSums)
    broken.onnx, broken.single, broken.divisor, broken.base = b"none", False, 1.0, np.zeros(1)
    steps = Chain([Numbers([0, 1]), broken, JudgeMany("identity")])
    with pytest.raises(NotLoadable, match="onnxruntime refuses the trees"):
        load(save(CompiledModel(RECIPE, OUTPUT, steps, 2, {})))


def test_what_cannot_be_stored_without_pickle_is_refused():
    with pytest.raises(TypeError, match="complex128 cannot be stored"):
        save(replace(model(), step=Scale(np.zeros(1, dtype=complex), None)))
    with pytest.raises(TypeError, match="set cannot be stored"):
        save(replace(model(), step=Numbers({1})))  # type: ignore[arg-type]


def with_terms(count: int) -> CompiledModel:
    counting = CountTerms(
        [f"term {number}" for number in range(count)],
        *("word", 1, 1, True, None, r"\w+", [], False),
    )
    return replace(model(), step=counting)


def test_a_long_list_is_stored_in_parts_each_of_which_is_read_quickly():
    """While a vocabulary of 40 MB was read, nobody else was answered for 0.2 s."""
    made = with_terms(3 * LONG + 7)
    data = save(made)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert max(entry.file_size for entry in archive.infolist()) < 20 * LONG
    loaded = load(data).step
    assert isinstance(loaded, CountTerms)
    assert isinstance(made.step, CountTerms)
    assert loaded.vocabulary == made.step.vocabulary
    assert save(load(data)) == data


@pytest.mark.parametrize("part", [{}, 1, [[1]], [{"$step": "chain"}]])
def test_a_part_of_a_list_that_is_not_plain_is_refused(part):
    data = save(with_terms(LONG + 1))
    changed = rewritten(lambda entries: entries.update({"0.json": json.dumps(part).encode()}), data)
    with pytest.raises(NotLoadable, match=r"0\.json is no list of plain values"):
        load(changed)


def test_every_kind_of_step_is_known_to_a_process_that_only_loads():
    modules = {kind.__module__ for kind in STEPS.values()}
    assert modules - {"app.scoring.step"} == {module.__name__ for module in MODULES}


def test_loading_needs_neither_scikit_learn_nor_pandas():
    heavy = ["sklearn", "pandas", "scipy", "onnx", "flask", "sqlalchemy"]
    code = f"import sys, app.scoring.format; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
