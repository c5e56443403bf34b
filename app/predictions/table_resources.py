"""The forms in which rows come to be predicted, and outputs are answered."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from flask import Response, request

from app.kernel.errors import UnsupportedMediaType
from app.kernel.http.bodies import JSON_TYPES, admitted_body
from app.kernel.http.downloads import BINARY
from app.predictions import schemas
from app.predictions.arrow_input import read_arrow
from app.predictions.csv_input import read_csv
from app.predictions.inputs import read_rows
from app.predictions.media_types import ARROW, CSV, JSON, OFFERED, TABLES
from app.predictions.output_tables import WRITERS
from app.predictions.service import PredictedArrays, ReadRows
from app.scoring.output_columns import only_parts, output_columns

VERSION_HEADER: Final = "X-Model-Version"
ENGINE_HEADER: Final = "X-Model-Engine"
_CSV_OUTPUTS = "prediction,probability_Adelie,probability_Gentoo\nGentoo,0.01,0.99\n"
_OF_TABLE = {"headers": {name: name for name in (VERSION_HEADER, ENGINE_HEADER)}, "success": True}
ARROW_ANSWER: dict[str, Any] = {
    "schema": BINARY,
    "content_type": ARROW,
    "example": "(bytes)",
    **_OF_TABLE,
}
CSV_ANSWER: dict[str, Any] = {
    "schema": {"type": "string"},
    "content_type": CSV,
    "example": _CSV_OUTPUTS,
    **_OF_TABLE,
}


def body_document(examples: Mapping[str, Any]) -> dict[str, Any]:
    """What the spec says of the request's body."""
    others = " or ".join(f"`{name}`" for name in TABLES)
    return {
        "required": True,
        "description": f"Rows to score: as JSON or, with the columns of the model, as {others}.",
        # One type: generators of clients warn of those that they don't know.
        "content": {JSON: {"schema": schemas.PredictIn, "examples": dict(examples)}},
    }


def is_json() -> bool:
    """Whether the rows came as JSON; raises UnsupportedMediaType for what isn't offered."""
    if request.mimetype in JSON_TYPES:
        return True
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype == ARROW or (request.mimetype == CSV and charset in ("utf-8", "utf8")):
        return False
    raise UnsupportedMediaType(
        "Send rows as JSON, as an Arrow stream or as CSV in UTF-8", extra={"accepted": [*OFFERED]}
    )


def reader_of(body: Mapping[str, Any]) -> ReadRows:
    """Reads the rows of a JSON body."""
    return lambda inputs, most_rows: read_rows(body, inputs, most_rows)[0]


def table_reader() -> ReadRows:
    """Reads the rows of this request's body, which isn't JSON.

    Raises TooLarge and UnsupportedMediaType; the reader raises what is wrong with the rows.
    """
    if request.mimetype == CSV:
        text = admitted_body(request, "CSV")
        return lambda inputs, most_rows: read_csv(text, inputs, most_rows)
    data = admitted_body(request, "Arrow")
    # Written out, texts may be as long as the longest body: those of JSON can't be longer.
    most_text = request.max_content_length or len(data)
    return lambda inputs, most_rows: read_arrow(data, inputs, most_rows, most_text)


def answer_of(
    predicted: PredictedArrays, media_type: str, parts: Sequence[str] | None = None
) -> Response:
    """The answer in the form that was asked for, with some or all parts of the outputs."""
    if media_type == JSON:
        told = {
            "model": predicted.model,
            "version": predicted.version,
            "engine": predicted.engine,
            "outputs": predicted.scores.rows(),
        }
        return Response(msgspec.json.encode(told) + b"\n", content_type=JSON)
    columns = only_parts(output_columns(predicted.scores), parts)
    headers = {VERSION_HEADER: str(predicted.version), ENGINE_HEADER: predicted.engine}
    content_type = f"{CSV}; charset=utf-8" if media_type == CSV else media_type
    answer = Response(WRITERS[media_type](columns), headers=headers, content_type=content_type)
    answer.vary.add("Accept")
    return answer
