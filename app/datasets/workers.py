"""The jobs of this service: uploads that are converted later."""

from collections.abc import Callable

from app.datasets.backlog import KIND
from app.datasets.service import DatasetsService
from app.kernel.job_claims import Job


def handlers(datasets: DatasetsService) -> dict[str, Callable[[Job], None]]:
    """What does a job, by its kind."""
    return {KIND: datasets.backlog.run}


def on_failure(datasets: DatasetsService) -> dict[str, Callable[[Job, Exception], None]]:
    """What ends the version of a job that has failed for good, by the job's kind."""
    return {KIND: datasets.backlog.fail}
