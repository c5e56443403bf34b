"""The datasets service of a whole installation, with its ingest process as a thread."""

import hashlib
import shutil
import tempfile
import threading
from base64 import b64encode
from pathlib import Path

from sqlalchemy import func, select

from app.datasets.process import ingest_handlers
from app.datasets.removal import Removal
from app.kernel.errors import Unavailable
from app.kernel.jobs.queue import JobRow
from app.kernel.jobs.worker import Worker
from app.kernel.local_rpc import Server
from tests.yard import Yard

CSV = "species,mass\nAdelie,3750\nGentoo,5700\nGentoo,\n"


class Referrers:
    """Services that may refer to versions, as a list that a test fills."""

    def __init__(self):
        self.found = []
        self.asked = []
        self.away = False

    def references(self, call, dataset, version):
        """What the test put there."""
        self.asked.append((call.project, dataset, version))
        if self.away:
            raise Unavailable("The service training can't be reached")
        return self.found


class Installation:
    """The services access and datasets over a fresh database, and an ingest that answers."""

    def __init__(self, home, database_url="", *, ingest=True, **settings):
        self.yard = Yard(
            home, database_url=database_url, services=("access", "datasets"), **settings
        )
        self.settings, self.wiring = self.yard.settings, self.yard.wiring
        self.service = self.yard.app.extensions["datasets"]
        self.referrers = Referrers()
        self._tenants = 0
        self.sockets = Path(tempfile.mkdtemp(prefix="my-"))
        self.settings.instance.mkdir(exist_ok=True)
        (self.settings.instance / "sockets").write_text(str(self.sockets))
        self._server = None
        if ingest:
            self.start_ingest()

    def start_ingest(self, handlers=None):
        """Let the ingest answer, by its own handlers or others."""
        handlers = handlers or ingest_handlers(self.settings)
        self._server = Server(self.sockets / "ingest", handlers)
        threading.Thread(target=self._server.run, daemon=True).start()

    def tenant(self):
        """A project of its own, for one test."""
        self._tenants += 1
        self.referrers = Referrers()
        self.service.removal = Removal(
            self.wiring.database("datasets"), self.wiring.store, [self.referrers]
        )
        return Tenant(self, f"project-{self._tenants}")

    def client(self):
        """A client with the admin's key."""
        return self.yard.client()

    def work(self, seconds=30.0):
        """Run the queued conversions until none is left."""
        queue = self.wiring.jobs("datasets")
        backlog = self.service.backlog
        handlers = {"dataset-version": backlog.run}
        worker = Worker({"datasets": queue}, handlers, backlog.fail, slots=2, poll=0.02)
        runner = threading.Thread(target=worker.run)
        runner.start()
        waited = threading.Event()
        for _ in range(int(seconds / 0.05)):
            if not _unfinished(queue):
                break
            waited.wait(0.05)
        worker.drain()
        runner.join()

    def stored_keys(self, project=""):
        """All that is in the store, or what belongs to a project."""
        return [thing.key for thing in self.wiring.store.list(project)]

    def work_folders(self):
        """The work folders of uploads that are under way, or were left."""
        work = self.settings.instance / "work" / "uploads"
        return list(work.iterdir()) if work.is_dir() else []

    def close(self):
        """Stop, and give everything back."""
        if self._server is not None:
            self._server.stop()
        self.yard.close()
        shutil.rmtree(self.sockets, ignore_errors=True)


class Tenant:
    """One project of an installation. What it doesn't know, the installation knows."""

    def __init__(self, installation, project):
        self._installation = installation
        self.project = project
        self._key = installation.yard.key(project=project, role="admin")

    def __getattr__(self, name):
        """The installation's."""
        return getattr(self._installation, name)

    def client(self, *, of="", role=None):
        """A client of this project, with all scopes or a role's; or one of another project."""
        project = f"{self.project}-{of}" if of else self.project
        key = self.yard.key(project=project, role=role) if role else self._key
        return self.yard.client(key)

    def call(self):
        """A call as a service method takes it."""
        return self.yard.call(project=self.project)

    def stored_keys(self):
        """What is in the store of this project."""
        return self._installation.stored_keys(self.project)


def _unfinished(queue):
    with queue.database.read() as session:
        return session.scalar(select(func.count()).where(JobRow.finished_at.is_(None)))


def content_digest(body):
    """The Content-Digest of a body."""
    sha256 = hashlib.sha256(body if isinstance(body, bytes) else body.encode())
    return f"sha-256=:{b64encode(sha256.digest()).decode()}:"


def make_dataset(client, name="penguins", **more):
    """A dataset without versions."""
    answer = client.post("/api/v1/datasets", json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer


def upload(client, body=CSV, dataset="penguins", query=None, content_type="text/csv", **headers):
    """A raw upload as the dataset's next version."""
    return client.post(
        f"/api/v1/datasets/{dataset}/versions",
        data=body,
        content_type=content_type,
        query_string=query,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
