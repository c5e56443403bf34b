"""What must come of the main job, whichever language's generated client does it."""

from pathlib import Path

import httpx

MAIN_JOB = {
    # The first as a form, the second as raw bytes.
    "version": [2, "succeeded", 344],
    "runs": [["succeeded", 1], ["succeeded", 2]],
    # Two moves by the same ETag: one is made, the other is too late.
    "moves": [200, 412],
    # For a row with a null.
    "predicted": [2, ["Gentoo"]],
    "read_back": True,
    # In pages of two.
    "names": ["empty-2", "empty-1", "empty-0", "penguins"],
    "problem": [422, ["/inputs/0/body_mass_g"]],
}
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
