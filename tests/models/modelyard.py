"""A yard with models in it: a client, peers, and the registrations that training would send."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.kernel.auth import Call, make_peer_token
from app.kernel.errors import Unavailable
from app.kernel.jobs.queue import JobQueue
from app.models.ports import Reference
from app.models.service import Models
from app.models.tables import Version
from tests.yard import Yard

API = "/api/v1"
SIGNATURE = {
    "inputs": [{"name": "body_mass_g", "type": "number", "nullable": True}],
    "output": {"task": "classification", "classes": ["Adelie", "Gentoo"], "probabilities": True},
}


class Others:
    """The services that may refer to models: they say what a test puts in."""

    def __init__(self) -> None:
        self.found: list[Reference] = []
        self.asked: list[tuple[str, int | None]] = []
        self.away = False
        self.default: int | None = None
        self.hook: Callable[[], object] = lambda: None

    def references(
        self, _call: Call, model: str, version: int | None, *, is_default: bool
    ) -> list[Reference]:
        """What the test says."""
        self.asked.append((model, version))
        self.default = version if is_default else None
        self.hook()
        if self.away:
            raise Unavailable("The service others can't be reached")
        return self.found


class Modelyard(Yard):
    """A yard whose models service asks ``others`` before it deletes."""

    def __init__(self, home: Path, database_url: str = "", **settings: Any) -> None:
        services = settings.pop("services", ("access", "models"))
        super().__init__(home, database_url=database_url, services=services, **settings)
        self.others = Others()
        self.models = Models(
            self.wiring.database("models"),
            self.wiring.ring,
            self.wiring.store,
            jobs=JobQueue(self.wiring.database("models")),
            referrers=[self.others],
        )
        self.app.extensions["models"] = self.models

    def peer(self, *scopes: str, project: str = "default") -> FlaskClient:
        """A client that is another service of ours."""
        token = make_peer_token(
            self.wiring.ring,
            service="training",
            project=project,
            scopes=frozenset(scopes),
            lifetime=600,
        )
        return self.client(token)

    def registration(
        self, *, content: bytes | None = None, project: str = "default", **changes: Any
    ) -> dict[str, Any]:
        """What training sends for a run; its artifact lies in the store."""
        content = content or f"joblib of {uuid4()}".encode()
        stored = self.wiring.store.put(f"{project}/models/{uuid4()}.joblib", content)
        return {
            "training_run": str(uuid4()),
            "task": "classification",
            "signature": SIGNATURE,
            "metrics": {"accuracy": 0.97},
            "baseline": {"accuracy": 0.44},
            "lineage": {
                "dataset": "penguins",
                "dataset_version": 1,
                "dataset_digest": "sha-256:" + "a" * 64,
                "target": "species",
                "estimator": "auto",
                "random_state": 42,
                "library_versions": {"scikit-learn": "1.9.1"},
            },
            "artifacts": [
                {
                    "format": "joblib",
                    "key": stored.key,
                    "digest": stored.digest,
                    "bytes": stored.bytes,
                }
            ],
            "serving": {"engine": "sklearn", "reason": "not compiled", "verified": None},
            "recipe": [{"name": "body_mass_g", "source": "body_mass_g", "kind": "number"}],
            **changes,
        }

    def register(self, model: str = "penguins", **changes: Any) -> dict[str, Any]:
        """Register a version as training does; the version."""
        project = changes.get("project", "default")
        answer = self.peer("models:register", project=project).post(
            f"{API}/models/{model}/versions", json=self.registration(**changes)
        )
        assert answer.status_code == 201, answer.text
        version: dict[str, Any] = answer.json
        return version

    def version_row(self, session: Session, number: int) -> Version:
        """A version of penguins as it is stored."""
        query = select(Version).where(Version.model == "penguins", Version.number == number)
        return session.scalars(query).one()

    def put_alias(self, alias: str, version: int, **options: Any) -> TestResponse:
        """Point an alias of penguins at a version."""
        body = {"version": version, **options.pop("body", {})}
        path = f"{API}/models/penguins/aliases/{alias}"
        return self.client().put(path, json=body, **options)

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What happened to models: type and data."""
        answer = self.client().get(f"{API}/events?source=models&limit=1000")
        return [(e["type"].removeprefix("modelyard."), e["data"]) for e in answer.json["items"]]

    def stored_keys(self) -> list[str]:
        """All that lies in the store."""
        return [item.key for item in self.wiring.store.list()]


def pointers(answer: TestResponse) -> list[str]:
    """Where a problem says that the request is wrong."""
    assert answer.content_type == "application/problem+json", answer.text
    return [error["pointer"] for error in json.loads(answer.text).get("errors", [])]
