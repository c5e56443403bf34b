"""Local files of tables that lie elsewhere."""

import threading

import pytest

from app.datasets.copies import Copies
from app.kernel.artifacts.folder import FolderStore
from app.kernel.artifacts.stored import ArtifactCorrupt, Stored


class FarStore(FolderStore):
    """A store without files of this host, which counts how often it is asked."""

    fetched = 0

    def local_path(self, key, digest, *, size=None):
        """There is none."""
        return

    def fetch(self, key, digest, destination, *, size=None):
        """A copy."""
        self.fetched += 1
        super().fetch(key, digest, destination, size=size)


@pytest.fixture
def store(tmp_path):
    """A store that is far away."""
    return FarStore(tmp_path / "store")


def test_a_store_of_this_host_is_read_in_place(tmp_path):
    store = FolderStore(tmp_path / "store")
    stored = store.put("default/datasets/x.parquet", b"abc")
    with Copies(store, tmp_path / "copies").table(stored) as path:
        assert path.is_relative_to(tmp_path / "store")


def test_a_copy_is_fetched_once(tmp_path, store):
    copies = Copies(store, tmp_path / "copies")
    stored = store.put("default/datasets/x.parquet", b"abc")

    def read():
        with copies.table(stored) as path:
            assert path.read_bytes() == b"abc"

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.fetched == 1


def test_copies_that_nobody_uses_give_way(tmp_path, store):
    copies = Copies(store, tmp_path / "copies", most_bytes=7)
    first, second, third = (
        store.put(f"default/datasets/{name}", name.encode() * 3) for name in ("a", "b", "c")
    )
    with copies.table(first) as kept:
        with copies.table(second) as path:
            pass
        with copies.table(third):
            assert kept.exists()
            assert not path.exists()


def test_a_file_that_was_made_is_found_again(tmp_path, store):
    copies = Copies(store, tmp_path / "copies")
    with copies.draft() as draft:
        draft.write_bytes(b"a,b\n")
        made = copies.keep("x.csv", draft, "sha-256:" + "0" * 64)
    assert copies.kept("x.csv") == made
    assert (made.path.read_bytes(), made.bytes) == (b"a,b\n", 4)
    assert copies.kept("y.csv") is None


def test_a_draft_that_is_given_up_leaves_nothing(tmp_path, store):
    copies = Copies(store, tmp_path / "copies")

    def give_up():
        with copies.draft() as draft:
            draft.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_copy_that_is_not_what_was_stored_is_refused_each_time(tmp_path, store):
    copies = Copies(store, tmp_path / "copies")
    stored = store.put("default/datasets/x.parquet", b"abc")
    wrong = Stored(stored.key, "sha-256:" + "0" * 64, stored.bytes)
    for _ in range(2):
        with pytest.raises(ArtifactCorrupt), copies.table(wrong):
            pass


def test_copies_of_an_earlier_process_are_not_trusted(tmp_path, store):
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "x.part").write_text("half")
    Copies(store, tmp_path / "copies")
    assert not (tmp_path / "copies").exists()
