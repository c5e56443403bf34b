"""Commits to a SQLite file are noticed without a query, whoever makes them."""

import subprocess
import sys
from contextlib import suppress

import pytest
from sqlalchemy import text

from app.kernel.commit_counter import CommitCounter
from app.kernel.sql import Database


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'some.db'}")
    with database.write() as session:
        session.execute(text("CREATE TABLE numbers (number INTEGER)"))
    yield database
    database.close()


def insert(database):
    with database.write() as session:
        session.execute(text("INSERT INTO numbers VALUES (1)"))


def test_a_commit_changes_what_is_read_and_a_question_does_not(database):
    before = database.commits()
    with database.read() as session:
        session.execute(text("SELECT count(*) FROM numbers")).all()
    assert database.commits() == before is not None

    insert(database)

    after = database.commits()
    assert after != before
    assert database.commits() == after


def test_a_commit_of_another_process_is_noticed(database):
    before = database.commits()
    insertion = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).connection"
    statement = "INSERT INTO numbers VALUES (2)"
    command = [sys.executable, "-c", f"{insertion}.commit()", str(database.file), statement]
    subprocess.run(command, check=True, timeout=30)
    assert database.commits() != before


def test_what_is_rolled_back_is_no_commit(database):
    before = database.commits()
    with suppress(ZeroDivisionError), database.write() as session:
        session.execute(text("INSERT INTO numbers VALUES (3)"))
        raise ZeroDivisionError
    assert database.commits() == before


def test_numbers_of_two_connections_are_never_the_same(database):
    before = database.commits()
    database.close()
    assert database.commits() != before


def test_a_file_that_is_not_there_tells_nothing_and_is_not_made(tmp_path):
    counter = CommitCounter(tmp_path / "none.db")
    assert (counter.read(), counter.read()) == (None, None)
    counter.close()
    assert list(tmp_path.iterdir()) == []
