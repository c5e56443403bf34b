"""Work folders: private, gone at the end, swept when their process died, held while it lives."""

import os
import subprocess
import sys

import pytest

from app.kernel.errors import StorageFull
from app.kernel.work_folders import sweep_work, work_folder

HOLDER = """
import sys, time
from pathlib import Path
from app.kernel.work_folders import work_folder
with work_folder(Path(sys.argv[1]), name="held"):
    print("held", flush=True)
    time.sleep(60)
"""


def make_old(folder):
    for path in (folder, *folder.iterdir()):
        os.utime(path, (0, 0))


def test_what_can_not_fit_is_refused_before_it_is_begun(tmp_path):
    with pytest.raises(StorageFull), work_folder(tmp_path / "work", room=10**18):
        pass


def test_a_work_folder_is_private_and_goes(tmp_path):
    with work_folder(tmp_path / "work") as folder:
        (folder / "source").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "work").iterdir())


def test_only_old_folders_are_swept(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "source").write_text("x")
    for path in (tmp_path / "old", tmp_path / "old" / "source"):
        os.utime(path, (0, 0))
    assert sweep_work(tmp_path, older_than=3600) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_an_earlier_one_of_the_name_left_goes_first(tmp_path):
    (tmp_path / "run-1" / "below").mkdir(parents=True)
    with work_folder(tmp_path, name="run-1") as folder:
        assert list(folder.iterdir()) == []


def test_a_folder_stays_as_long_as_its_process_lives_and_no_longer(tmp_path):
    """A fit of hours writes nothing for hours: its age alone said that it was left behind."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        make_old(tmp_path / "held")
        assert sweep_work(tmp_path, older_than=3600) == 0
        holder.kill()
        holder.wait()
    assert sweep_work(tmp_path, older_than=3600) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path / "kept")
    os.utime(tmp_path / "work" / "link", (0, 0), follow_symlinks=False)
    sweep_work(tmp_path / "work", older_than=3600)
    assert (tmp_path / "kept").is_dir()
