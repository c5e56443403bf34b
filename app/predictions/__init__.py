"""Predictions: stored, unstored and over whole datasets.

URLs: ``/predictions``, ``/models/{model}/predict``, ``/batch-predictions`` and what hangs below
them; for peers ``/references/predictions``.
Tables: ``predictions_stored``, ``predictions_batches``, ``predictions_models``.
Events: ``prediction.created``, ``prediction.deleted``, ``predictions.deleted``, ``batch.queued``,
``batch.running``, ``batch.succeeded``, ``batch.failed``, ``batch.cancelled``.
Jobs: ``batch_prediction``.

The hot path is ``engine``: no SQL, no schema, no Flask. Which version a reference means is known
from ``directory``, a read model of the models service that follows its events. A version whose
compiled form was verified is scored in this process; any other one by the scorer process next
door, which alone loads scikit-learn.
"""
