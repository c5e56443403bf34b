"""The OpenAPI document: valid, every operation named, every body with an example that fits."""

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate


def operations(spec):
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield f"{method} {path}", operation


def bodies(spec):
    """Each request and response body: where it stands, its type, what is said of it."""
    for place, operation in operations(spec):
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{place} request", kind, media
        for status, response in operation["responses"].items():
            for kind, media in response.get("content", {}).items():
                yield f"{place} {status}", kind, media
    for name, response in spec["components"]["responses"].items():
        for kind, media in response["content"].items():
            yield name, kind, media


def test_it_is_a_valid_document(spec):
    assert spec["openapi"] == "3.1.0"
    validate(spec)


def test_every_operation_has_a_name_of_its_own_a_summary_and_a_documented_error(spec):
    found = dict(operations(spec))
    names = [operation["operationId"] for operation in found.values()]

    assert len(names) == len(set(names))
    for place, operation in found.items():
        assert operation["summary"], place
        assert operation["responses"]["default"] == {
            "$ref": "#/components/responses/DEFAULT_ERROR"
        }, place
        assert "security" in operation, place


def test_every_text_of_a_query_is_bounded(spec):
    """Without a bound it may be longer than a server takes, whose refusal is no problem+json."""
    unbounded = [
        f"{place} {parameter['name']}"
        for place, operation in operations(spec)
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
        and parameter["schema"].get("type", "string") == "string"
        and not {"enum", "maxLength"} & set(parameter["schema"])
    ]

    assert unbounded == []


def test_failures_are_problem_json(spec):
    for name, response in spec["components"]["responses"].items():
        assert list(response["content"]) == ["application/problem+json"], name


def test_every_body_has_an_example(spec):
    bare = [
        f"{place}: {kind}"
        for place, kind, media in bodies(spec)
        if not {"example", "examples"} & set(media)
    ]

    assert bare == []


def test_the_examples_fit_their_schemas(spec):
    for place, kind, media in bodies(spec):
        if not kind.endswith("json"):
            continue
        schema = {**media["schema"], "components": spec["components"]}
        shown = [item["value"] for item in media.get("examples", {}).values()]
        for example in [media["example"]] if "example" in media else shown:
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
            assert errors == [], place
