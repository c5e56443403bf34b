"""What must come of the main job, whichever language's generated client does it."""

from pathlib import Path

import httpx

PENGUINS = Path(__file__).resolve().parents[2] / "examples" / "penguins.csv"


def operations_of(server):
    """The operations of a server's spec, by their names."""
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    return {
        told["operationId"]: told
        for path in paths.values()
        for method, told in path.items()
        if method != "parameters"
    }


class MainJob:
    """The checks; ``done`` is what a client's script told of its work, ``server`` did it."""

    def test_a_form_and_a_raw_body_are_uploaded(self, done):
        assert done["version"] == [2, "succeeded", 344]

    def test_a_model_is_trained_and_predicts_a_row_with_a_null(self, done):
        assert done["runs"] == [["succeeded", 1], ["succeeded", 2]]
        assert done["accuracy"] > 0.9
        assert done["predicted"] == [2, ["Gentoo"]]

    def test_a_stored_prediction_is_read_back(self, server, done):
        with server.client() as client:
            stored = client.get(f"/predictions/{done['stored']}").json()
        assert done["read_back"]
        assert stored["inputs"][0]["sex"] is None

    def test_an_alias_moves_once_by_its_etag(self, done):
        assert done["moves"] == [200, 412]

    def test_a_list_is_read_page_by_page(self, done):
        assert done["names"] == ["empty-2", "empty-1", "empty-0", "penguins"]

    def test_a_refusal_is_a_typed_problem(self, done):
        assert done["problem"] == [422, ["/inputs/0/body_mass_g"]]
