"""Modelyard: a RESTful model-management server."""
