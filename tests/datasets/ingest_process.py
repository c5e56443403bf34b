"""The ingest process of a home: ``python -m tests.datasets.ingest_process``, set by environment."""

from app.config import Settings
from app.datasets.process import ingest_handlers
from app.kernel.local_rpc import Server
from app.wiring import Wiring


def main() -> None:
    """Answer until killed."""
    settings = Settings.from_environment()
    Server(Wiring(settings).socket("ingest"), ingest_handlers(settings)).run()


if __name__ == "__main__":
    main()
