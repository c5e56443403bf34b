"""What the spec says of datasets: bodies that are files, headers, what is answered."""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.datasets.receiving import TYPES


@pytest.fixture(scope="module")
def spec(sqlite_house):
    """The OpenAPI document."""
    return sqlite_house.client().get("/openapi.json").json


@pytest.fixture
def operation(spec):
    """An operation by its id."""
    found = {
        operation["operationId"]: operation
        for path in spec["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict)
    }
    return found.__getitem__


def parameters(operation, place):
    return {found["name"] for found in operation["parameters"] if found.get("in") == place}


def test_the_document_is_valid(spec):
    assert list(OpenAPIV31SpecValidator(spec).iter_errors()) == []


def test_an_upload_is_documented_as_a_form_and_as_bytes_of_any_format(operation):
    upload = operation("createDatasetVersion")
    content = upload["requestBody"]["content"]
    assert list(content) == ["multipart/form-data", "application/octet-stream"]
    formats = next(found for found in upload["parameters"] if found["name"] == "format")
    assert formats["schema"]["enum"] == ["csv", "ndjson", "json", "parquet"]
    assert all(f"`{name}`" in upload["requestBody"]["description"] for name in TYPES)
    file = content["multipart/form-data"]["schema"]["properties"]["file"]
    assert file["format"] == "binary"
    assert all("example" in kind for kind in content.values())
    told = {"201", "202", "411", "413", "415", "422", "429", "507", "default"}
    assert told <= set(upload["responses"])


def test_a_dataset_can_be_made_from_json_or_a_form(operation):
    content = operation("createDataset")["requestBody"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/DatasetIn"}
    assert content["multipart/form-data"]["schema"]["required"] == ["name", "file"]


@pytest.mark.parametrize("name", ["createDataset", "createDatasetVersion"])
def test_what_tells_how_to_read_is_documented(operation, name):
    found = operation(name)
    assert parameters(found, "query") == {
        "format",
        "delimiter",
        "decimal",
        "encoding",
        "on_error",
    }
    assert parameters(found, "header") >= {
        "Content-Digest",
        "Content-Encoding",
        "Idempotency-Key",
        "Prefer",
        "X-Columns",
    }


@pytest.mark.parametrize("name", ["deleteDataset", "deleteDatasetVersion"])
def test_a_deletion_tells_of_its_dry_run_and_of_if_match(operation, name):
    found = operation(name)
    assert parameters(found, "query") == {"dry_run"}
    assert parameters(found, "header") == {"If-Match", "X-Request-Timeout"}
    assert {"200", "204"} <= set(found["responses"])


def test_a_download_tells_of_its_forms(operation):
    found = operation("getDatasetContent")
    assert set(found["responses"]["200"]["content"]) == {
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.parquet",
    }
    assert {"206", "304", "406", "416"} <= set(found["responses"])
    assert parameters(found, "header") == {"Range", "If-None-Match", "X-Request-Timeout"}


def test_a_hold_is_for_peers(operation):
    assert operation("createDatasetHold")["tags"] == ["peers"]
