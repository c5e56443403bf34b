"""From a dataset version and a request to a fitted, judged and saved model."""
