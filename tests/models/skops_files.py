"""Skops files for tests: made as a client would, rewritten as an attacker would, imported."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.kernel.errors import Invalid
from app.models.skops.importing import import_skops
from app.scoring.loader import load_sklearn, minor_version

LABELS = np.array(["no", "yes"], dtype=object)[(np.arange(20) % 3 == 0).astype(int)]


class Importer:
    """Imports bytes, or a model that is dumped first, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, source: Any, **options: Any) -> dict[str, Any]:
        """The report of an import."""
        data = source if isinstance(source, bytes) else dumped(source)
        (self.folder / "model.skops").write_bytes(data)
        return import_skops(self.folder / "model.skops", self.folder, **options)

    def refuse(self, source: Any, **options: Any) -> Invalid:
        """Why an import was refused: with a pointer, nothing left behind, no path told."""
        with pytest.raises(Invalid) as raised:
            self.take(source, **options)
        pointer = raised.value.errors[0].pointer
        assert pointer == "/file" or pointer.startswith("/inputs")
        assert [path.name for path in self.folder.iterdir()] == ["model.skops"]
        assert str(self.folder) not in raised.value.detail
        return raised.value

    def loaded(self) -> Any:
        """The model that an import left."""
        data = (self.folder / "model.joblib").read_bytes()
        return load_sklearn(data, expected_sklearn_minor=minor_version())


def dumped(model: Any) -> bytes:
    """The skops file of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(skops.io.dumps(model))


def rows_of(count: int = 20) -> "np.ndarray[Any, Any]":
    """Three columns of numbers."""
    return np.random.default_rng(0).normal(size=(count, 3))


def classifier(model: BaseEstimator | None = None) -> Any:
    """A model fitted on a plain matrix."""
    return (LogisticRegression() if model is None else model).fit(rows_of(), LABELS)


def mixed_table() -> pd.DataFrame:
    """A number, a category, a text, and an id that no model wants."""
    places = np.array(["north", "south"], dtype=object)[np.arange(20) % 2]
    notes = np.array(["a word", "two words"], dtype=object)[np.arange(20) % 2]
    table = {"size": rows_of()[:, 0], "place": places, "note": notes, "id": np.arange(20.0)}
    return pd.DataFrame({name: pd.Series(it, dtype=it.dtype) for name, it in table.items()})


def mixed_model() -> Pipeline:
    """A model fitted on the mixed table."""
    prepare_columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["size"]),
            ("places", OneHotEncoder(), ["place"]),
            ("notes", TfidfVectorizer(), "note"),
        ]
    )
    return make_pipeline(prepare_columns, LogisticRegression()).fit(mixed_table(), LABELS)


GOOD = dumped(classifier())


def rewritten(
    data: bytes,
    edit: Callable[[dict[str, Any]], Any] = lambda _: None,
    *,
    arrays: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """The same file with another schema, or other arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        contents = {name: old.read(name) for name in old.namelist()} | (arrays or {})
        schema = json.loads(contents.pop("schema.json"))
        edit(schema)
        for name, content in contents.items():
            new.writestr(name, content)
        new.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


def array(value: "np.ndarray[Any, Any]", *, objects: bool = False) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=objects)
    return buffer.getvalue()
