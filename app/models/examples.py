"""What the documentation shows of this service's resources."""

from typing import Any

_TIMES = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
_DIGEST = "sha-256:" + "9f86d081" * 8
_RUN = "01a203dd-2710-7023-bd67-9d8929f69490"

MODEL: dict[str, Any] = {
    "name": "penguins",
    "description": "Species by body measures",
    "tags": {"team": "birds"},
    "retention": {"max_age_days": 90},
    "newest_version": 2,
    "default_version": 1,
    "aliases": {"champion": 1},
    **_TIMES,
}
SIGNATURE: dict[str, Any] = {
    "inputs": [
        {"name": "island", "type": "string", "nullable": False},
        {"name": "body_mass_g", "type": "integer", "nullable": True},
    ],
    "output": {
        "task": "classification",
        "classes": ["Adelie", "Chinstrap", "Gentoo"],
        "probabilities": True,
    },
}
LINEAGE: dict[str, Any] = {
    "training_run": _RUN,
    "dataset": "penguins",
    "dataset_version": 1,
    "dataset_digest": _DIGEST,
    "dataset_origin": None,
    "target": "species",
    "estimator": {"name": "RandomForestClassifier", "params": {"n_estimators": 200}},
    "random_state": 42,
    "validation": {"method": "holdout", "test_fraction": 0.2},
    "library_versions": {"scikit-learn": "1.9.1"},
    "source_digest": None,
}
ARTIFACT: dict[str, Any] = {"format": "joblib", "digest": _DIGEST, "bytes": 4954}
SERVING: dict[str, Any] = {
    "engine": "compiled",
    "reason": None,
    "verified": {"rows": 439, "max_abs_diff": 0.0, "label_flips": 0},
}
SUMMARY: dict[str, Any] = {
    "model": "penguins",
    "version": 1,
    "state": "ready",
    "task": "classification",
    "description": "",
    "tags": {},
    "metrics": {"accuracy": 0.985},
    "lineage": LINEAGE,
    "artifacts": [ARTIFACT],
    "serving": SERVING,
    "error": None,
    **_TIMES,
}
VERSION: dict[str, Any] = {
    **SUMMARY,
    "baseline": {"accuracy": 0.442},
    "warnings": [],
    "signature": SIGNATURE,
}
RECIPE: list[dict[str, str]] = [{"name": "island", "source": "island", "kind": "category"}]
LOCATION: dict[str, Any] = {
    **VERSION,
    "project": "default",
    "id": _RUN,
    "model_id": _RUN,
    "subject": "models/penguins/versions/1",
    "artifacts": [{**ARTIFACT, "key": f"default/models/{_RUN}-1.joblib", "mac": "0a1b2c3d4e5f.x"}],
    "recipe": RECIPE,
    "library_versions": {"scikit-learn": "1.9.1"},
}
STATE: dict[str, Any] = {
    "model": "penguins",
    "id": _RUN,
    "newest_version": 2,
    "default_alias_version": 1,
    "aliases": {"champion": 1},
    "retention": None,
    "versions": [{"version": 1, "id": _RUN, "state": "ready"}],
}
ALIAS: dict[str, Any] = {
    "model": "penguins",
    "alias": "champion",
    "version": 1,
    "reason": "better on the new islands",
    "moved_by": "Zk3vQ9aB",
    "moved_at": "2026-01-01T00:00:00Z",
    "created_at": "2026-01-01T00:00:00Z",
}
MOVE: dict[str, Any] = {
    "number": 1,
    "kind": "set",
    "from_version": None,
    "to_version": 1,
    "reason": "first",
    "moved_by": "Zk3vQ9aB",
    "moved_at": "2026-01-01T00:00:00Z",
}
PLAN: dict[str, Any] = {
    "model": "penguins",
    "versions": [1],
    "artifacts": 2,
    "bytes": 8228,
    "allowed": True,
    "referrers": [],
}
