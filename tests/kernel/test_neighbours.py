"""Questions to a neighbour process: asked of nobody else, and never answered by a pickle."""

import os
import pickle
import threading
from multiprocessing import connection as connections

import pytest

from app.kernel.errors import Unavailable
from app.kernel.local_rpc import Client, Lost, Server, listen


@pytest.fixture
def socket_path(tmp_path):
    """The socket of a neighbour that doubles numbers."""
    path = tmp_path / "s"
    server = Server(path, {"double": lambda arguments: arguments["number"] * 2})
    thread = threading.Thread(target=server.run)
    thread.start()
    yield path
    server.stop()
    thread.join()


def ask(path, number=21):
    return Client(lambda: path, "doubler").ask("double", {"number": number}, seconds=5)


def test_a_neighbour_answers(socket_path):
    assert ask(socket_path) == 42


def test_a_socket_in_anothers_folder_is_not_asked(socket_path, monkeypatch):
    """The bug: of temporary files that were cleared away, another user could take the name."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Unavailable):
        ask(socket_path)


def test_a_pickle_is_neither_opened_nor_answered(socket_path, tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return open, (str(canary), "w")

    with connections.Client(str(socket_path), family="AF_UNIX") as connection:
        connection.send_bytes(pickle.dumps(Evil()))
        with pytest.raises((EOFError, OSError)):
            connection.recv_bytes()
    assert not canary.exists()
    assert ask(socket_path) == 42


def test_a_neighbour_that_dies_when_asked_is_told_from_one_that_is_not_there(tmp_path):
    listener = listen(tmp_path / "s")

    def die():
        with listener.accept() as connection:
            connection.recv_bytes()

    dying = threading.Thread(target=die)
    dying.start()
    with pytest.raises(Lost) as caught:
        ask(tmp_path / "s")
    dying.join()
    listener.close()
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert caught.value.exit_status is None
    with pytest.raises(Unavailable) as caught:
        ask(tmp_path / "nobody")
    assert type(caught.value) is Unavailable


def test_what_a_neighbour_lacks_is_not_taken_for_its_own_death(tmp_path):
    """Of classes with one code the last was taken: `corrupt` was `missing`, this were a death."""

    def lack(_):
        raise Unavailable("The store does not answer", retry_after=7)

    server = Server(tmp_path / "s", {"double": lack})
    serving = threading.Thread(target=server.run)
    serving.start()
    with pytest.raises(Unavailable, match="store") as caught:
        ask(tmp_path / "s")
    server.stop()
    serving.join()
    assert type(caught.value) is Unavailable
    assert caught.value.retry_after == 7
