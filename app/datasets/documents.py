"""What the spec says where schemas can't: bodies that are files, and answers that are."""

from typing import Any

from app.datasets import schemas
from app.datasets.receiving import OCTETS, TYPES
from app.kernel.http.spec import PART_OF_FILE, WHOLE_FILE

_BINARY = {"type": "string", "format": "binary"}
_CSV = "species,island,body_mass_g\nAdelie,Torgersen,3750\nGentoo,Biscoe,5700\n"
_NDJSON = '{"species": "Adelie", "body_mass_g": 3750}\n{"species": "Gentoo", "body_mass_g": 5700}\n'

_FILE = {**_BINARY, "description": "The table."}
_COLUMNS_PART = {
    "type": "string",
    "description": "How columns are to be read, as JSON, by name: `type`, `null_values`, `format`.",
    "examples": ["{}"],
}


def _form(properties: dict[str, Any], example: dict[str, str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(example),
        "properties": properties,
        "additionalProperties": False,
    }
    return {"multipart/form-data": {"schema": schema, "example": example}}


UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "description": "A table: as the part `file` of a form, or raw and perhaps gzipped. A raw body "
    "may have its own type instead of `format`: " + ", ".join(f"`{name}`" for name in TYPES) + ".",
    # One raw type: generators of clients know one body of bytes, and prefer JSON to any other.
    "content": {
        **_form({"file": _FILE, "columns": _COLUMNS_PART}, {"file": _CSV}),
        OCTETS: {"schema": _BINARY, "example": _CSV},
    },
}

DATASET_BODY: dict[str, Any] = {
    "required": True,
    "description": "As a form: with its first version. As JSON: a name without versions.",
    "content": {
        **_form(
            {
                "name": {"type": "string", "examples": ["penguins"]},
                "file": _FILE,
                "description": {"type": "string", "examples": ["Palmer"]},
                "tags": {
                    "type": "string",
                    "description": "A JSON object of texts.",
                    "examples": ['{"year": "2009"}'],
                },
                "columns": _COLUMNS_PART,
            },
            {"name": "penguins", "file": _CSV},
        ),
        "application/json": {
            "schema": schemas.DatasetIn,
            "example": {"name": "penguins", "description": "Palmer", "tags": {"year": "2009"}},
        },
    },
}

ARCHIVE_BODY: dict[str, Any] = {
    "required": True,
    "description": "The rows, one for each record.",
    "content": {
        "application/json": {
            "schema": {"type": "array", "items": {"type": "object"}},
            "example": [{"carrier": "UA", "delay": 12}],
        }
    },
}

_CONTENT = {
    "text/csv": {"schema": {"type": "string"}, "example": _CSV},
    "application/x-ndjson": {"schema": {"type": "string"}, "example": _NDJSON},
    "application/vnd.apache.parquet": {"schema": _BINARY, "example": "PAR1.."},
}
CONTENT_RESPONSES: dict[str, Any] = {
    "200": {"description": "The whole table", "content": _CONTENT, "headers": WHOLE_FILE},
    "206": {"description": "A part of the file", "content": _CONTENT, "headers": PART_OF_FILE},
    "406": {"$ref": "#/components/responses/NotAcceptable"},
    "416": {"$ref": "#/components/responses/RangeNotSatisfiable"},
}

REMOVAL_PARAMETERS: list[dict[str, Any]] = [
    {
        "in": "query",
        "name": "dry_run",
        "schema": {"type": "boolean", "default": False},
        "description": "Only tell what would be done.",
    }
]
