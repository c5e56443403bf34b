"""What a definition of learning must be beyond its shape."""

from collections.abc import Mapping
from typing import Any

from app.kernel.errors import Invalid


def refuse_clashes(definition: Mapping[str, Any], member: str) -> None:
    """Raise Invalid where one name stands for two things; ``member`` holds the definition."""
    features = definition["features"]
    for place, name in enumerate(features):
        at = f"/{member}/features/{place}"
        if name in features[:place]:
            raise Invalid.at(at, "duplicate", "It stands twice")
        if name == definition["target"]:
            raise Invalid.at(at, "contradiction", "The target can't be a feature")
    if definition["id_field"] == definition["target"]:
        raise Invalid.at(f"/{member}/id_field", "contradiction", "The target can't be the id")
    for place, name in enumerate(definition["categories"]):
        if name not in features:
            at = f"/{member}/categories/{place}"
            raise Invalid.at(at, "unknown_column", "There is no such feature")
