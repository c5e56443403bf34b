"""An insertion that is put together once writes what SQLAlchemy's own would."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, func, insert, select
from sqlalchemy.exc import IntegrityError, StatementError

from app.kernel.insertion import Insertion
from app.kernel.sql import Database, UtcDateTime

SOME = Table(
    "insertion_rows",
    MetaData(),
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("time", UtcDateTime),
    Column("data", JSON(none_as_null=True)),
    Column("text", String(64)),
)
NAMES = ("name", "time", "data", "text")
IN_TOKYO = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
ROWS = [
    ("plain", datetime(2026, 11, 23, tzinfo=UTC), {"a": [1, 2.5, None]}, "x"),
    ("Zürich \N{SNOWMAN} ' \" ; -- %s ? :name", IN_TOKYO, {"ü": "'%(a)s"}, "?"),
    ("nothing", None, None, None),
]


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    SOME.metadata.create_all(made.engine)
    yield made
    made.close()


def rows_of(database):
    with database.read() as session:
        found = session.execute(select(SOME).order_by(SOME.c.position)).all()
    return [tuple(row)[1:] for row in found]


def run(database, rows):
    insertion = Insertion(SOME, NAMES, database.engine.dialect)
    with database.write() as session:
        insertion.run(session.connection(), rows)


@pytest.mark.parametrize("count", [1, 3])
def test_it_writes_what_the_usual_way_writes(database, count):
    rows = [dict(zip(NAMES, row, strict=True)) for row in ROWS[-count:]]
    run(database, rows)
    with database.write() as session:
        session.execute(insert(SOME), rows)
    written = rows_of(database)
    assert len(written) == 2 * count
    assert written[:count] == written[count:] == ROWS[-count:]


def test_what_a_type_or_the_table_refuses_is_not_written(database):
    good = dict(zip(NAMES, ROWS[0], strict=True))
    with pytest.raises((ValueError, StatementError)):
        run(database, [good, {**good, "time": datetime(2026, 11, 23)}])  # noqa: DTZ001
    with pytest.raises(IntegrityError):
        run(database, [good, {**good, "name": None}])
    with pytest.raises(KeyError):
        run(database, [{"name": "alone"}])
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(SOME)) == 0
