"""An installation whose processors archive: with an ingest that answers, and a dataset to read."""

import shutil
import tempfile
import threading
from pathlib import Path

from app.datasets.process import ingest_handlers
from app.kernel.local_rpc import Server
from app.settings_table import SERVICES
from tests.streams.processors.installation import Streaming
from tests.yard import Yard

DATASETS = "/api/v1/datasets"
ARCHIVE = {
    "name": "kept",
    "kind": "archive",
    "topic": "in",
    "dead_letter_topic": "dead",
    "archive": {"dataset": "flights", "rows": 10, "seconds": 1, "include": ["partition", "offset"]},
}


class ArchivingYard(Yard):
    """All services, and an ingest in a thread."""

    def __init__(self, home, database_url="", **settings):
        super().__init__(home, database_url=database_url, services=SERVICES, **settings)
        self.sockets = Path(tempfile.mkdtemp(prefix="my-"))
        self.settings.instance.mkdir(exist_ok=True)
        (self.settings.instance / "sockets").write_text(str(self.sockets))
        self._ingest = Server(self.sockets / "ingest", ingest_handlers(self.settings))
        threading.Thread(target=self._ingest.run, daemon=True).start()

    def close(self):
        self._ingest.stop()
        super().close()
        shutil.rmtree(self.sockets, ignore_errors=True)


class Archiving(Streaming):
    """What has been archived, read as any client would."""

    def archive(self, **changes):
        """Make a processor; what is not named is as in ``ARCHIVE``."""
        archive = {**ARCHIVE["archive"], **changes.pop("archive", {})}
        return self.create(**{"output_topic": None, **ARCHIVE, **changes, "archive": archive})

    def versions(self, dataset="flights"):
        """All versions, from the first one on."""
        path = f"{DATASETS}/{dataset}/versions?order_by=version&page_size=500"
        answer = self.client.get(path)
        return answer.json["items"] if answer.status_code == 200 else []

    def ranges(self, partition=0, dataset="flights"):
        """Which records each version of a partition was made of, by their order."""
        offsets = [version["origin"]["offsets"][0] for version in self.versions(dataset)]
        mine = [one for one in offsets if one["partition"] == partition]
        return sorted((one["first"], one["next"]) for one in mine)

    def rows(self, dataset="flights"):
        """All rows of all versions."""
        found = []
        for version in self.versions(dataset):
            path = f"{DATASETS}/{dataset}/versions/{version['version']}/rows?limit=10000"
            found += self.client.get(path).json["items"]
        return found

    def places(self, dataset="flights"):
        """Where the rows of all versions came from."""
        return sorted((row["record_partition"], row["record_offset"]) for row in self.rows(dataset))
