"""Tables and runs for the tests of training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from app.training.catalog.lookup import Catalog
from app.training.fit.run import train
from app.training.fit.spec import ColumnInfo, FitSpec, Validation

SQL_TYPES = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "string": "VARCHAR",
    "datetime": "TIMESTAMP",
}
EXAMPLES = Path(__file__).parents[2] / "examples"
PENGUINS = {
    "species": "string",
    "island": "string",
    "bill_length_mm": "number",
    "bill_depth_mm": "number",
    "flipper_length_mm": "integer",
    "body_mass_g": "integer",
    "sex": "string",
    "year": "integer",
}


def parquet_of(frame: pd.DataFrame, types: Mapping[str, str], path: Path) -> Path:
    """The columns as a dataset version stores them."""
    columns = ", ".join(
        f'CAST("{name}" AS {SQL_TYPES[kind]}) AS "{name}"' for name, kind in types.items()
    )
    with duckdb.connect() as connection:
        connection.register("given", frame)
        connection.execute(f"COPY (SELECT {columns} FROM given) TO '{path}' (FORMAT parquet)")
    return path


def penguins() -> pd.DataFrame:
    return pd.read_csv(EXAMPLES / "penguins.csv")


class Run:
    """One training run on a frame, in a folder of its own."""

    def __init__(self, work: Path, frame: pd.DataFrame, types: Mapping[str, str]) -> None:
        self.work = work
        self.types = dict(types)
        self.parquet = parquet_of(frame, types, work / "data.parquet")
        self.steps: list[tuple[float, str, str]] = []

    def spec(self, estimator: Any = "auto", **wanted: Any) -> FitSpec:
        columns = tuple(ColumnInfo(name, kind) for name, kind in self.types.items())
        if isinstance(wanted.get("validation"), dict):
            wanted["validation"] = Validation(**wanted["validation"])
        checked = Catalog.load().validate_spec(estimator)
        return FitSpec.checked(columns=columns, estimator=checked, **wanted)

    def train(self, estimator: Any = "auto", **wanted: Any) -> dict[str, Any]:
        spec = self.spec(estimator, **wanted)
        return train(spec, self.parquet, self.work, lambda *step: self.steps.append(step))
