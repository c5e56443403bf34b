"""Batch predictions as rows of the database, without anybody who works at them."""

from app.kernel.sql import new_id
from app.predictions.tables import BatchPrediction


def batch_row(**columns):
    """A row, not added to any session, with what a test does not care for filled in."""
    needed = {
        "id": new_id(),
        "project": "default",
        "model": "penguins",
        "version": 1,
        "dataset": "penguins",
        "dataset_version": 1,
        "dataset_storage": {},
        "tags": {},
        "attempt": 1,
    }
    return BatchPrediction(**(needed | columns))
