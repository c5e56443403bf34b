"""What a fitted scikit-learn estimator answers, in the same shape as a compiled model.

For the processes that hold scikit-learn: the scorer, and training, which compares the two. It needs
only methods of the estimator that it is given, so it imports pandas alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from app.scoring.scores import Array, Scores


def data_frame(prepared: Mapping[str, Array]) -> pd.DataFrame:
    """The prepared columns as the DataFrame on which pipelines are fitted.

    Columns of strings keep the dtype ``object``, in which a missing category is NaN.
    """
    return pd.DataFrame(
        {name: pd.Series(array, dtype=array.dtype) for name, array in prepared.items()}
    )


def answer(estimator: Any, prepared: Mapping[str, Array], output: Mapping[str, Any]) -> Scores:
    """Ask the estimator about prepared rows; ``output`` is that of the model's signature."""
    frame = data_frame(prepared)
    task = output["task"]
    if task == "classification":
        labels = np.searchsorted(estimator.classes_, estimator.predict(frame))
        shares = estimator.predict_proba(frame) if output.get("probabilities") else None
        return Scores(task, output["classes"], labels=labels, probabilities=shares)
    if task == "regression":
        return Scores(task, values=np.asarray(estimator.predict(frame), dtype=np.float64).ravel())
    if task == "clustering":
        return Scores(task, clusters=np.asarray(estimator.predict(frame), dtype=np.int64))
    if task == "outlier_detection":
        decision = np.asarray(estimator.decision_function(frame), dtype=np.float64)
        return Scores(task, outliers=decision < 0, unusual=-decision)
    components = estimator.transform(frame)
    if hasattr(components, "toarray"):
        components = components.toarray()
    return Scores(task, components=np.asarray(components, dtype=np.float64))
