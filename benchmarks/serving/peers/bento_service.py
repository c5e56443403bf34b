"""A BentoML service as its documentation writes one."""

import os
from pathlib import Path

import bentoml
import joblib
import numpy as np
import pandas as pd

FOLDER = Path(os.environ["BENCH_MODELS"])


@bentoml.service(workers=1)
class Models:
    def __init__(self) -> None:
        self.models = {name: joblib.load(FOLDER / f"{name}.joblib") for name in ("lr", "rf", "hg")}

    @bentoml.api
    def lr(self, rows: np.ndarray) -> np.ndarray:
        return self.models["lr"].predict_proba(rows)

    @bentoml.api
    def rf(self, rows: np.ndarray) -> np.ndarray:
        return self.models["rf"].predict_proba(rows)

    @bentoml.api
    def hg(self, table: pd.DataFrame) -> np.ndarray:
        return self.models["hg"].predict_proba(table)
