"""A power cut: what was acknowledged had reached the disk, with its name and the folders above."""

import os

import pytest

from app.backup import back_up
from app.config import Settings
from app.kernel.artifacts.folder import FolderStore
from app.kernel.sql import Database
from app.restore import restore
from app.secret import key_ring
from app.settings_table import SettingsError
from tests.faults.power import watched
from tests.predictions.predicting import Modelyard

pytestmark = pytest.mark.fault("F28")


def test_the_watch_sees_what_would_be_lost(tmp_path, monkeypatch):
    with watched(monkeypatch, tmp_path) as disk:
        handle = os.open(tmp_path / "draft", os.O_WRONLY | os.O_CREAT)
        os.write(handle, b"kept")
        os.fsync(handle)
        os.write(handle, b" and lost")
        assert disk.left() == {}
        (tmp_path / "draft").rename(tmp_path / "final")
        folder = os.open(tmp_path, os.O_RDONLY)
        (tmp_path / "never").write_bytes(b"synced")
        os.fsync(folder)
        assert disk.left() == {"final": b"kept", "never": None}
        os.close(handle)
        os.close(folder)


def test_what_the_store_has_taken_is_there_and_whole_in_a_home_that_is_new(tmp_path, monkeypatch):
    """The folder of the store itself was made without its name being brought to the disk."""
    with watched(monkeypatch, tmp_path) as disk:
        store = FolderStore(tmp_path / "home" / "store")
        store.put("project/models/one", b"content")
        store.put("project/models/two", iter([b"con", b"tent"]))
        assert disk.left() == {
            "home/store/project/models/one": b"content",
            "home/store/project/models/two": b"content",
        }
        store.put("project/models/one", b"content")
        store.delete("project/models/two")
        assert disk.left() == {"home/store/project/models/one": b"content"}


def test_the_secret_is_there_before_anything_is_signed(tmp_path, monkeypatch):
    """It was written without fsync: after a power cut an empty file would have signed nothing."""
    with watched(monkeypatch, tmp_path) as disk:
        settings = Settings.from_environment({"MODELYARD_HOME": str(tmp_path / "home")})
        signed = key_ring(settings).sign("purpose", b"payload")
        left = disk.left()
    assert list(left) == ["home/instance/secret"]
    (tmp_path / "home" / "instance" / "secret").write_bytes(left["home/instance/secret"])
    assert key_ring(settings).verify("purpose", b"payload", signed)


def test_a_backup_and_what_is_restored_from_it_are_there(tmp_path, monkeypatch):
    for name in ("backups", "new"):
        (tmp_path / name).mkdir()
    yard = Modelyard(tmp_path / "old")
    yard.register(content=b"artifact")
    secret = (tmp_path / "old/instance/secret").read_bytes()
    with watched(monkeypatch, tmp_path) as disk:
        back_up(yard.settings, tmp_path / "backups" / "yard.tar")
        tar = disk.left()["backups/yard.tar"]
        assert tar == (tmp_path / "backups" / "yard.tar").read_bytes()
        settings = yard.settings.with_(home=tmp_path / "new" / "home")
        restore(settings, tmp_path / "backups" / "yard.tar")
        new = {path: kept for path, kept in disk.left().items() if path.startswith("new/")}
    yard.close()
    (artifact,) = (kept for path, kept in new.items() if "/models/" in path)
    assert artifact == b"artifact"
    assert new["new/home/instance/secret"] == secret
    assert new["new/home/instance/modelyard.db"]
    assert not any("restoring" in path for path in new)


def test_a_commit_waits_for_the_disk(tmp_path):
    """In its own code, which no shim of ours sees: SQLite says what it has been told to do."""
    database = Database(f"sqlite:///{tmp_path / 'some.db'}")
    with database.write() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()


def test_a_secret_that_is_no_longer_one_is_told_in_one_line(tmp_path):
    settings = Settings.from_environment({"MODELYARD_HOME": str(tmp_path)})
    key_ring(settings)
    (tmp_path / "instance" / "secret").write_bytes(b"")
    with pytest.raises(SettingsError, match="is damaged: put it back from a backup"):
        key_ring(settings)
