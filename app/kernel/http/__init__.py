"""HTTP: the one place where Flask and flask-smorest are tuned."""
