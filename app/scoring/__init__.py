"""The compiled form of a model: built and verified by training, served by predictions.

``frame`` turns raw rows into prepared columns. A compiled model (``model``) answers about them by a
chain of steps (``step``): ``encoder`` with ``numbers``, ``categories`` and ``texts`` makes a
float64 ``matrix``; ``cores`` with ``trees``, ``ensembles`` and ``kernels`` makes the ``scores``.
``format`` stores and loads it. ``estimator`` gives scikit-learn's answers in the same shape, and
``loader`` reads a joblib file by an exact allow-list (scorer and worker processes only).
"""
