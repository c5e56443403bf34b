"""A yard with real models to predict by: one served compiled, one by the scorer."""

import tempfile
import threading
from pathlib import Path

import joblib
import numpy as np
from prometheus_client import CollectorRegistry
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.compiling.compiler import compile_and_verify
from app.kernel.local_rpc import Server
from app.kernel.process_metrics import with_metrics
from app.kernel.time_limit import TimeLimit
from app.predictions.scorer import Estimators, Scoring
from app.scoring.estimator import data_frame
from app.scoring.frame import Recipe, prepare
from app.settings_table import SERVICES
from app.training.fit.report import library_versions
from tests.models.modelyard import Modelyard

RECIPE = [
    {"name": "mass", "source": "mass", "kind": "number"},
    {"name": "island", "source": "island", "kind": "category"},
]
SIGNATURE = {
    "inputs": [
        {"name": "mass", "type": "number", "nullable": True},
        {"name": "island", "type": "string", "nullable": False},
    ],
    "output": {"task": "classification", "classes": ["light", "heavy"], "probabilities": True},
}
SIGNATURE["output"]["classes"].sort()
ROW = {"mass": 4200.0, "island": "Biscoe"}


def fitted(model):
    """A small pipeline over a number and a category, and the raw columns that it has seen."""
    random = np.random.default_rng(0)
    mass = random.normal(4000, 500, 200)
    columns = {
        "mass": [None if index % 17 == 0 else float(value) for index, value in enumerate(mass)],
        "island": [["Biscoe", "Dream", "Torgersen"][index % 3] for index in range(200)],
    }
    frame = data_frame(prepare(Recipe.from_list(RECIPE), columns))
    preparation = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(), StandardScaler()), ["mass"]),
            ("category", OneHotEncoder(handle_unknown="ignore"), ["island"]),
        ]
    )
    labels = np.where(mass > 4000, "heavy", "light")
    return Pipeline([("prepare", preparation), ("model", model)]).fit(frame, labels), columns


class Predicting(Modelyard):
    """All services, a scorer that answers, and the models ``fast`` and ``slow``."""

    def __init__(self, home, database_url="", **settings):
        super().__init__(home, database_url, services=SERVICES, **settings)
        self.sockets = Path(tempfile.mkdtemp(prefix="my-"))
        (self.settings.instance / "sockets").write_text(str(self.sockets))
        self.start_scorer()
        self.make("fast", LogisticRegression())
        self.make("slow", KNeighborsClassifier(weights="distance", algorithm="brute"))

    def start_scorer(self):
        """In this process, by a thread."""
        registry = CollectorRegistry()
        estimators = Estimators(self.wiring.artifact_reader.open, 10**8, registry)
        handlers = with_metrics(Scoring(estimators, registry, TimeLimit(60)).handlers(), registry)
        self._server = Server(self.sockets / "scorer", handlers)
        threading.Thread(target=self._server.run, daemon=True).start()

    def stop_scorer(self):
        """So that there is none."""
        self._server.stop()

    def make(self, name, model):
        """Register a version of a model, compiled if it can be."""
        pipeline, columns = fitted(model)
        self.pipelines = {**getattr(self, "pipelines", {}), name: pipeline}
        result = compile_and_verify(pipeline, Recipe.from_list(RECIPE), SIGNATURE, columns, seed=0)
        if result.compiled is None:
            return self.put(name, pipeline, result.reason)
        serving = {"engine": "compiled", "reason": None, "verified": result.verified}
        return self.put(name, pipeline, serving=serving, compiled=result.compiled)

    def put(self, name, pipeline, reason="", *, serving=None, compiled=None):
        """Register a version of a model as it is; without ``serving`` it's for the scorer."""
        folder = Path(tempfile.mkdtemp())
        joblib.dump(pipeline, folder / "model.joblib")
        files = {"joblib": (folder / "model.joblib").read_bytes()}
        if compiled is not None:
            files["compiled"] = compiled
        artifacts = []
        for format_, data in files.items():
            stored = self.wiring.store.put(f"default/models/{folder.name}.{format_}", data)
            told = {"key": stored.key, "digest": stored.digest, "bytes": stored.bytes}
            artifacts.append({"format": format_, **told})
        lineage = {
            **self.registration()["lineage"],
            "library_versions": library_versions(),
        }
        return self.register(
            name,
            signature=SIGNATURE,
            recipe=RECIPE,
            serving=serving or {"engine": "sklearn", "reason": reason, "verified": None},
            artifacts=artifacts,
            lineage=lineage,
        )

    def expected(self, name, rows):
        """scikit-learn's own probabilities for rows of objects."""
        columns = {key: [row[key] for row in rows] for key in ROW}
        frame = data_frame(prepare(Recipe.from_list(RECIPE), columns))
        return self.pipelines[name].predict_proba(frame)

    def close(self):
        """Stop the scorer too."""
        self.stop_scorer()
        super().close()
