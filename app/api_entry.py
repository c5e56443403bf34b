"""What each of granian's worker processes loads: the app."""

from typing import TYPE_CHECKING

from app.kernel.loading import loading

if TYPE_CHECKING:
    from flask import Flask


def load_app() -> "Flask":
    """The app of an API process."""
    with loading():
        from app.roles import make_app

        return make_app()
