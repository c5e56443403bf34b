"""The compiled form of a model: built and verified by training, served by predictions.

``frame`` turns rows of JSON values into prepared columns, ``encoder`` turns those into a float64
matrix, ``cores`` turns the matrix into scores, ``format`` stores and loads all three, and
``loader`` reads a joblib file by an exact allow-list (scorer and training processes only).
"""
