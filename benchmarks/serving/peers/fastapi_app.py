"""What the tutorials show: FastAPI, a pydantic model of the body, a plain function as the view."""

import os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

FOLDER = Path(os.environ["BENCH_MODELS"])
MODELS = {name: joblib.load(FOLDER / f"{name}.joblib") for name in ("lr", "rf", "hg")}
app = FastAPI()


class Table(BaseModel):
    columns: list[str]
    rows: list[list[str | float]]


@app.post("/lr")
def lr(rows: list[list[float]]) -> list[list[float]]:
    return MODELS["lr"].predict_proba(np.array(rows)).tolist()


@app.post("/rf")
def rf(rows: list[list[float]]) -> list[list[float]]:
    return MODELS["rf"].predict_proba(np.array(rows)).tolist()


@app.post("/hg")
def hg(table: Table) -> list[list[float]]:
    return MODELS["hg"].predict_proba(pd.DataFrame(table.rows, columns=table.columns)).tolist()
