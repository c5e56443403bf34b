"""A number is one living process's alone."""

import multiprocessing

import pytest

from app.kernel.numbers_taken import take_number


def hold(folder, pipe):
    pipe.send(take_number(folder, "api", 2, 0))
    pipe.recv()


@pytest.fixture
def holders(tmp_path):
    """Starts processes that take a number; gives each with the number that it has."""
    spawning = multiprocessing.get_context("spawn")
    started = []

    def start():
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=hold, args=(tmp_path, theirs))
        process.start()
        started.append((process, ours))
        return process, ours.recv()

    yield start
    for process, pipe in started:
        process.kill()
        process.join()
        pipe.close()


def test_the_number_of_a_dead_process_is_the_next_ones(holders, tmp_path):
    first, second = holders(), holders()
    assert [first[1], second[1]] == [1, 2]
    with pytest.raises(TimeoutError, match="All 2 numbers of api are taken"):
        take_number(tmp_path, "api", 2, 0.1)
    first[0].kill()
    first[0].join()
    assert holders()[1] == 1


def test_other_kinds_have_numbers_of_their_own(holders, tmp_path):
    assert holders()[1] == 1
    assert take_number(tmp_path, "other", 1, 0) == 1
