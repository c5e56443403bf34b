"""Which estimators and parameters a client may name: data, reviewed."""
