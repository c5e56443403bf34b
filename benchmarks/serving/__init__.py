"""Predictions over HTTP, beside the servers that one might pick instead."""
