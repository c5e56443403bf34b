"""The kinds of processors: what the API checks of each, and what a processor process runs.

A new kind is a row in ``rules`` with its fields in ``schemas``, and a row in the
``Kind`` mapping that the process is given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from app.kernel.errors import Invalid
from app.kernel.sql import Database
from app.streams.learning.rules import refuse_clashes
from app.streams.processors.handling import Kind, Share
from app.streams.processors.hook_guard import HookGuard, NotAllowed
from app.streams.processors.lane import Duty, Lane, Tools
from app.streams.processors.reading import Lease, Reader, Work
from app.streams.processors.tables import RUNNING, Processor

PREDICT, AGGREGATE, ARCHIVE, WEBHOOK = "predict", "aggregate", "archive", "webhook"
LEARN = "learn"
_MOST_OVERLAP: Final = 100


@dataclass(frozen=True)
class KindRules:
    """What the API must know of a kind.

    ``is_folded``: what has been kept would not fit another configuration; ``fixed`` are members of
    one that can't be changed either. ``scope`` is what its maker must hold besides. ``check``
    raises Invalid for a configuration that its schema lets pass, with a pointer into the body.
    """

    has_output: bool
    is_folded: bool = False
    fixed: frozenset[str] = frozenset()
    scope: str | None = None
    check: Callable[[Mapping[str, Any]], None] = lambda _config: None


def rules(guard: HookGuard) -> dict[str, KindRules]:
    """The rules of all kinds."""
    return {
        PREDICT: KindRules(has_output=True),
        AGGREGATE: KindRules(has_output=True, is_folded=True, check=check_windows),
        LEARN: KindRules(has_output=True, is_folded=True, check=check_learning),
        ARCHIVE: KindRules(
            has_output=False,
            fixed=frozenset({"columns", "include"}),
            scope="datasets:write",
            check=check_archive,
        ),
        WEBHOOK: KindRules(has_output=False, check=lambda config: check_hook(guard, config)),
    }


def check_windows(config: Mapping[str, Any]) -> None:
    """Raise Invalid for windows that can't be, or are too many for a record."""
    size, hop = config["window"]["size_seconds"], config["window"].get("hop_seconds")
    if hop is not None and not hop <= size <= hop * _MOST_OVERLAP:
        detail = f"A window starts each hop: at most the size, at least 1/{_MOST_OVERLAP} of it"
        raise Invalid.at("/aggregate/window/hop_seconds", "out_of_range", detail)
    for name, one in config["aggregates"].items():
        if one["function"] != "count" and one.get("field") is None:
            raise Invalid.at(
                f"/aggregate/aggregates/{name}/field", "missing", "Only count needs no field"
            )


def check_learning(config: Mapping[str, Any]) -> None:
    """Raise Invalid for names that clash."""
    refuse_clashes(config, LEARN)


def check_archive(config: Mapping[str, Any]) -> None:
    """Raise Invalid for a name that stands twice."""
    for member in ("columns", "include"):
        names = config[member] or []
        for place, name in enumerate(names):
            if name in names[:place]:
                raise Invalid.at(f"/archive/{member}/{place}", "duplicate", "It stands twice")


def check_hook(guard: HookGuard, config: Mapping[str, Any]) -> None:
    """Raise Invalid for a URL that may not be called."""
    try:
        guard.check(config["url"])
    except NotAllowed as error:
        raise Invalid.at("/webhook/url", "not_allowed", str(error)) from error


@dataclass(frozen=True)
class ProcessorWork:
    """A running processor as something to be read."""

    row: Processor
    kind: Kind
    tools: Tools

    @property
    def group_id(self) -> str:
        """Its group's id."""
        return self.row.group_id

    @property
    def topic_id(self) -> str:
        """What the record log calls its input."""
        return self.row.topic_id

    @property
    def revision(self) -> str:
        """Changes with each change of the resource."""
        return f"{self.row.id}-{self.row.row_version}"

    def open(self, lease: Lease) -> Reader:
        """A lane of one partition."""
        row = self.row
        share = Share(
            processor=row.id,
            name=row.name,
            project=row.project,
            topic=row.topic,
            partition=lease.held.partition,
            generation=row.generation,
            config=row.config,
            stopping=lease.stopping,
        )
        topics = (row.topic_id, row.output_id, row.dead_letter_id)
        # Of an archive, as many as a part has; all other kinds take what comes.
        most = min(self.kind.most, row.config.get("rows", self.kind.most))
        duty = Duty(self.kind, share, *topics, tries=row.tries, most=most)
        return Lane(duty, lease, self.tools)


class RunningProcessors:
    """The source of all processors that run, of the kinds that this process knows."""

    def __init__(self, database: Database, kinds: Mapping[str, Kind], tools: Tools) -> None:
        self._database = database
        self._kinds = kinds
        self._tools = tools
        self._seen: Sequence[object] = ()
        self._works: Sequence[ProcessorWork] = ()

    def __call__(self) -> Sequence[Work]:
        """What is to be read right now; rows are read only when some have changed."""
        running = (Processor.state == RUNNING) & Processor.kind.in_(list(self._kinds))
        versions = select(Processor.id, Processor.row_version).where(running).order_by(Processor.id)
        with self._database.read() as session:
            seen = session.execute(versions).all()
            if seen != self._seen:
                rows = session.scalars(select(Processor).where(running).order_by(Processor.id))
                self._works = [
                    ProcessorWork(row, self._kinds[row.kind], self._tools) for row in rows
                ]
                self._seen = [(work.row.id, work.row.row_version) for work in self._works]
        return self._works
