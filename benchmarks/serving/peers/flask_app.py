"""What one writes in ten minutes: Flask, joblib, jsonify."""

import os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from flask import Flask, jsonify, request

FOLDER = Path(os.environ["BENCH_MODELS"])
MODELS = {name: joblib.load(FOLDER / f"{name}.joblib") for name in ("lr", "rf", "hg")}
app = Flask(__name__)


@app.post("/<name>")
def predict(name):
    body = request.get_json()
    rows = pd.DataFrame(body["rows"], columns=body["columns"]) if name == "hg" else np.array(body)
    return jsonify(MODELS[name].predict_proba(rows).tolist())
