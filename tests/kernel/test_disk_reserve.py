"""The room that is kept back for deletions: taken, lent, given back, by several at once."""

import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from app.kernel import disk_reserve
from app.kernel.disk_reserve import NAME, DiskReserve, lending_to_deletions
from app.kernel.errors import StorageFull, Unavailable

SIZE = 1 << 20


@pytest.fixture
def free(monkeypatch):
    """How much room the disk says that it has, besides the reserve."""
    told = {"free": 10 * SIZE}
    real = disk_reserve.shutil.disk_usage

    def usage(folder):
        return real(folder)._replace(free=told["free"])

    monkeypatch.setattr(disk_reserve.shutil, "disk_usage", usage)
    return told


@pytest.fixture
def reserve(tmp_path, free):
    made = DiskReserve([tmp_path, tmp_path / "instance"], SIZE)
    made.take_back()
    return made


def held(folder):
    return (folder / NAME).stat().st_blocks * 512


def test_one_reserve_a_disk_is_really_there(reserve, tmp_path):
    assert held(tmp_path) == SIZE
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_it_is_lent_only_where_the_disk_is_short_and_taken_back(reserve, tmp_path, free):
    with reserve.lent():
        assert held(tmp_path) == SIZE
    free["free"] = 0
    with reserve.lent():
        assert held(tmp_path) == 0
        free["free"] = SIZE
    assert held(tmp_path) == SIZE


def test_what_is_there_of_it_is_taken_back_and_the_rest_later(reserve, tmp_path, free):
    free["free"] = SIZE // 4
    with reserve.lent():
        pass
    assert held(tmp_path) == SIZE // 4
    free["free"] = 10 * SIZE
    reserve.check()
    assert held(tmp_path) == SIZE


def test_the_last_of_several_takes_it_back(reserve, tmp_path, free):
    free["free"] = 0
    with reserve.lent():
        with reserve.lent():
            free["free"] = SIZE - 1
        assert held(tmp_path) == 0
    assert held(tmp_path) > SIZE // 2


def test_one_that_was_killed_with_it_keeps_it_from_nobody(reserve, tmp_path, free):
    script = f"""
import os, signal
from pathlib import Path
from app.kernel.disk_reserve import DiskReserve
with DiskReserve([Path({str(tmp_path)!r})], 1 << 60).lent():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert held(tmp_path) == 0
    reserve.take_back()
    assert held(tmp_path) == SIZE


def test_a_full_disk_is_told(reserve, free):
    reserve.check()
    free["free"] = 1000
    with pytest.raises(StorageFull):
        reserve.check()


def test_a_disk_that_went_away_is_told_and_keeps_nobody_from_trying(reserve, tmp_path, monkeypatch):
    def gone(_folder):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(disk_reserve.shutil, "disk_usage", gone)
    with pytest.raises(Unavailable, match=os.strerror(5)):
        reserve.check()
    with reserve.lent():
        pass


def test_none_is_kept_where_none_is_wanted(tmp_path, free):
    none = DiskReserve([tmp_path], 0)
    none.take_back()
    free["free"] = 0
    with none.lent():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_its_place_is_not_followed(tmp_path, free):
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / NAME).symlink_to(tmp_path / "other")
    linked = DiskReserve([tmp_path], SIZE)
    linked.take_back()
    free["free"] = 0
    with linked.lent():
        pass
    assert (tmp_path / "other").read_bytes() == b"precious"


def test_only_deletions_have_the_room(reserve, tmp_path, free):
    seen = {}

    def app(environ, _start_response):
        seen[environ["REQUEST_METHOD"]] = held(tmp_path)
        return []

    free["free"] = 0
    lending = lending_to_deletions(app, reserve)
    for method in ("POST", "DELETE"):
        lending({"REQUEST_METHOD": method}, lambda *_: None)
    assert seen == {"POST": SIZE, "DELETE": 0}


def test_threads_that_come_and_go_leave_it_whole(reserve, tmp_path, free):
    free["free"] = SIZE - 1

    def delete():
        for _ in range(50):
            with suppress(StorageFull), reserve.lent():
                pass

    threads = [threading.Thread(target=delete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reserve.take_back()
    assert held(tmp_path) >= SIZE - 4096
