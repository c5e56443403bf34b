"""Questions to a neighbour process: asked of nobody else, and never answered by a pickle."""

import os
import pickle
import threading
from multiprocessing import connection as connections

import pytest

from app.kernel.errors import Unavailable
from app.kernel.local_rpc import Client, Server


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
