"""Places for those to whom files are sent: taken while they read, free again when they go."""

import pytest

from tests.models.modelyard import Modelyard
from tests.predictions.test_contents import Batches
from tests.problems import assert_problem

ARTIFACT = "/api/v1/models/penguins/versions/1/artifacts/joblib"


@pytest.fixture
def narrow(tmp_path):
    """An installation with places for two downloads, a model's artifact and a batch's content."""
    yard = Modelyard(tmp_path, services=("access", "models", "predictions"), stream_slots=2)
    yard.register(content=b"x" * 5_000_000)
    yard.content = f"{Batches(yard).path}/content"
    yield yard
    yard.close()


@pytest.mark.parametrize("file", ["artifact", "content"])
def test_clients_that_read_nothing_take_a_bounded_number_of_places(narrow, file):
    """The bug: a download of a model or a batch held a thread for as long as its client liked."""
    client = narrow.client()
    path = ARTIFACT if file == "artifact" else narrow.content
    deaf = [client.get(path), client.get(path, headers={"Range": "bytes=0-3"})]
    assert [answer.status_code for answer in deaf] == [200, 206]
    refused = client.get(path)
    assert_problem(refused, 503)
    assert client.head(path).status_code == 200
    tag = {"If-None-Match": deaf[0].headers["ETag"]}
    assert client.get(path, headers=tag).status_code == 304
    assert client.get("/api/v1/models").status_code == 200
    for answer in deaf:
        answer.close()
    assert client.get(path).data


def test_a_range_that_cannot_be_had_takes_no_place(narrow):
    client = narrow.client()
    for _ in range(5):
        assert_problem(client.get(ARTIFACT, headers={"Range": "bytes=9999999-"}), 416)
    assert client.get(ARTIFACT).data
