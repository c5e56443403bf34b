# ruff: noqa: T201 - it tells the test what has been acknowledged by its output
"""A process that writes to several databases and the store, through the whole app.

For n = 0, 1, ...: a project, then a model with a version and its artifact, then a dataset, each in
a database of its own and after the answer to the one before; every third model is deleted again.
Each n that all have acknowledged is printed.
"""

import itertools
import sys
from uuid import uuid4

from app.config import Settings
from app.factory import create_app
from app.kernel.auth import make_peer_token
from app.kernel.logs import configure_logs
from app.wiring import Wiring
from tests.models.modelyard import API, Modelyard


def main(name):
    settings = Settings.from_environment()
    configure_logs("error", as_json=True, role="writer")
    wiring = Wiring(settings)
    client = create_app(settings, wiring).test_client()
    yard = Modelyard.__new__(Modelyard)
    yard.wiring = wiring

    def ask(key, path, body):
        headers = {"Authorization": f"Bearer {key}"}
        answer = client.post(f"{API}{path}", json=body, headers=headers)
        assert answer.status_code == 201, answer.text

    for number in itertools.count():
        called = f"{name}-{number}"
        ask(settings.admin_key, "/projects", {"name": called})
        peer = make_peer_token(
            wiring.ring,
            service="training",
            project="default",
            scopes=frozenset({"models:register"}),
            lifetime=600,
        )
        content = uuid4().bytes * 1000
        ask(peer, f"/models/{called}/versions", yard.registration(content=content))
        ask(settings.admin_key, "/datasets", {"name": called})
        if number % 3 == 2:
            earlier = f"{API}/models/{name}-{number - 1}"
            headers = {"Authorization": f"Bearer {settings.admin_key}"}
            assert client.delete(earlier, headers=headers).status_code == 204
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
