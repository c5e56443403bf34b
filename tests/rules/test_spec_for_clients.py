"""The OpenAPI document as generators of clients and Swagger UI read it, which is not all of it."""

import pytest

JSON, FORM, BYTES = "application/json", "multipart/form-data", "application/octet-stream"


@pytest.fixture(scope="module")
def operations(spec):
    return {
        told["operationId"]: told
        for path in spec["paths"].values()
        for method, told in path.items()
        if method != "parameters"
    }


def schemas(told):
    """Each schema within a part of the document."""
    if isinstance(told, dict):
        if "type" in told or "enum" in told or "properties" in told:
            yield told
        told = list(told.values())
    if isinstance(told, list):
        for part in told:
            yield from schemas(part)


def test_a_body_is_json_or_a_form_or_bytes(operations):
    """Of all other types openapi-python-client warns, of two kinds of bytes it sends the last;
    @hey-api/openapi-ts takes JSON where there is JSON, else the first."""
    kinds = [
        list(told["requestBody"]["content"])
        for told in operations.values()
        if "requestBody" in told
    ]

    assert all(found in ([JSON], [FORM, JSON], [FORM, BYTES]) for found in kinds), kinds


def test_a_schema_with_fields_is_no_choice(spec):
    """openapi-python-client forgets the fields beside a `oneOf`, and takes anything."""
    torn = [
        found
        for found in schemas(spec)
        if "properties" in found and {"oneOf", "anyOf"} & set(found)
    ]

    assert torn == []


def test_null_is_no_value_of_a_choice(spec):
    """openapi-python-client makes three types of a choice between texts and null."""
    assert [found for found in schemas(spec) if None in found.get("enum", ())] == []


def test_every_text_of_a_form_has_an_example(operations):
    """Swagger UI fills in `string`, which is refused where JSON is wanted."""
    forms = [
        told["requestBody"]["content"][FORM]["schema"]["properties"]
        for told in operations.values()
        if FORM in told.get("requestBody", {}).get("content", {})
    ]
    texts = [text for form in forms for text in form.values() if text.get("format") != "binary"]

    assert [text for text in texts if not text.get("examples")] == []


def test_a_summary_is_plain_text(operations):
    assert [told["summary"] for told in operations.values() if "`" in told["summary"]] == []


def test_every_tag_is_described_and_the_main_job_comes_first(spec, operations):
    tags = {tag["name"]: tag["description"] for tag in spec["tags"]}

    assert list(tags)[:4] == ["datasets", "training", "models", "predictions"]
    assert all(tags.values())
    assert {tag for told in operations.values() for tag in told["tags"]} == set(tags)
