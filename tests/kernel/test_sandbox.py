import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.errors import Unavailable
from app.kernel.sandbox.child import _without_folders
from app.kernel.sandbox.outcome import Ending, judge
from app.kernel.sandbox.parent import LOG_NAME, Limits, Sandbox
from app.kernel.sandbox.pipes import Lines

TARGETS = __name__.replace("test_sandbox", "sandbox_targets")
LIMITS = Limits(
    wall_seconds=30, memory_bytes=512 << 20, cpu_seconds=30, file_bytes=20 << 20, processes=16
)


def limited(**changes):
    return Limits(**{**vars(LIMITS), **changes})


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(["numpy"]) as sandbox:
        sandbox.warm()
        yield sandbox


@pytest.fixture
def run(sandbox, tmp_path):
    def run(target, arguments=None, limits=LIMITS, **callbacks):
        return sandbox.run(f"{TARGETS}:{target}", arguments or {}, tmp_path, limits, **callbacks)

    return run


def gone(pids, within=20.0):
    """Whether none of the processes lives, at the latest some seconds from now."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not any(living(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def living(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class Remembered(list):
    """Progress, and the pids in it."""

    @property
    def pids(self):
        return [pid for told in self for pid in told.get("pids", [told.get("pid")])]


class TestResult:
    def test_is_the_targets_answer(self, run):
        outcome = run("echo", {"a": [1, None, "ü"]})
        assert (outcome.code, outcome.result) == ("ok", {"a": [1, None, "ü"]})
        assert 0 < outcome.cpu_seconds < 5
        assert outcome.peak_memory_bytes > 1 << 20

    @pytest.mark.parametrize("kind", ["set", "nan"])
    def test_must_be_json(self, run, kind):
        outcome = run("answer_not_json", {"kind": kind})
        assert (outcome.code, outcome.result) == ("error", None)
        assert "JSON" in outcome.detail

    def test_has_a_largest_size(self, run):
        outcome = run("answer_at_length")
        assert outcome.code == "error"
        assert "more than" in outcome.detail

    def test_comes_within_a_fraction_of_a_second(self, run):
        taken = []
        for _ in range(5):
            started = time.monotonic()
            run("echo")
            taken.append(time.monotonic() - started)
        # 0.02 s each on an idle machine
        assert min(taken) < 1

    def test_of_many_threads_are_not_mixed_up(self, run):
        results = {}

        def ask(number):
            results[number] = run("echo", {"number": number}).result

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: {"number": number} for number in range(8)}


class TestProgress:
    def test_arrives_while_the_target_runs(self, run):
        told = []
        outcome = run("count", {"steps": 3, "pause": 0.3}, on_progress=told.append)
        assert told == [{"step": 0}, {"step": 1}, {"step": 2}]
        assert outcome.result == "counted"

    def test_of_a_flood_the_last_is_told(self, run):
        told = []

        def hear_slowly(progress):
            time.sleep(0.01)
            told.append(progress)

        run("count", {"steps": 4_000}, on_progress=hear_slowly)
        assert told[-1] == {"step": 3_999}
        assert len(told) < 4_000

    def test_without_end_does_not_stop_the_clock(self, run):
        outcome = run("report_for_ever", limits=limited(wall_seconds=0.5, grace_seconds=0.2))
        assert outcome.code == "time_limit"

    def test_callback_that_raises_ends_the_child(self, run):
        told = Remembered()

        def raise_at_once(progress):
            told.append(progress)
            raise LookupError

        with pytest.raises(LookupError):
            run("spin", on_progress=raise_at_once)
        assert not living(told.pids[0])


class TestFailure:
    def test_of_the_code_is_told_without_folders(self, run):
        outcome = run("fail")
        assert outcome.code == "error"
        assert outcome.failure.type == "FileNotFoundError"
        assert not outcome.failure.expected
        assert "table.parquet" in outcome.failure.message
        assert "/work" not in outcome.failure.message + outcome.failure.traceback
        assert "sandbox_targets.py" in outcome.failure.traceback

    def test_of_the_input_is_expected_and_keeps_its_fields(self, run):
        failure = run("refuse").failure
        assert (failure.type, failure.error_code, failure.expected) == ("Invalid", "invalid", True)
        assert failure.errors[0]["pointer"] == "/target"
        assert failure.errors[0]["allowed"] == ["a", "b"]

    def test_may_say_itself_that_it_is_expected(self, run):
        outcome = run("fail_as_expected")
        assert (outcome.failure.expected, outcome.failure.error_code) == (True, "one_class")
        assert outcome.detail == "The target has one class only"

    def test_of_a_target_that_is_not_there(self, run):
        assert run("no_such_function").failure.type == "AttributeError"

    def test_of_the_preload_list_is_told(self):
        with Sandbox(["no_such_module"]) as sandbox, pytest.raises(Unavailable, match="no_such"):
            sandbox.warm()


class TestLog:
    def test_holds_what_was_printed(self, run, tmp_path):
        heard = []
        outcome = run("speak", on_log=heard.append)
        text = (tmp_path / LOG_NAME).read_text()
        assert sorted(text.splitlines()) == ["from native code", "on stderr", "on stdout"]
        assert outcome.log_tail == "".join(heard) == text

    def test_is_bounded_and_its_end_is_kept_in_memory(self, run, tmp_path):
        outcome = run("shout", {"kilobytes": 100_000}, limited(log_bytes=10_000))
        assert outcome.code == "ok"
        assert outcome.log_tail.endswith("the end\n")
        text = (tmp_path / LOG_NAME).read_text()
        assert len(text) < 10_100
        assert text.endswith("[more output was dropped]\n")

    def test_without_end_does_not_stop_the_clock(self, run, tmp_path):
        started = time.monotonic()
        outcome = run("shout_for_ever", limits=limited(wall_seconds=0.5))
        assert outcome.code == "time_limit"
        assert time.monotonic() - started < 15
        assert (tmp_path / LOG_NAME).stat().st_size <= LIMITS.log_bytes + 100


class TestLimits:
    def test_of_time_ends_native_code(self, run):
        started = time.monotonic()
        assert run("spin", limits=limited(wall_seconds=0.5)).code == "time_limit"
        assert time.monotonic() - started < 15

    def test_of_time_gives_no_more_than_grace_to_one_that_ignores_sigterm(self, run):
        told, seconds = [], 0.25
        while not told:
            # Until it ignores anything, it ends at once.
            seconds *= 2
            started, used = time.monotonic(), time.thread_time()
            limits = limited(wall_seconds=seconds, grace_seconds=0.5)
            outcome = run("ignore_sigterm", limits=limits, on_progress=told.append)
            assert outcome.code == "time_limit"
        assert seconds + 0.4 < time.monotonic() - started < seconds + 15
        # The worker waits, it doesn't spin: 0.01 s.
        assert time.thread_time() - used < 0.2

    def test_of_memory(self, run):
        outcome = run("allocate", {"megabytes": 2000})
        assert (outcome.code, outcome.failure.type) == ("memory_limit", "MemoryError")

    def test_of_memory_lets_the_target_have_nearly_all_of_it(self, run):
        assert run("allocate", {"megabytes": 490}).code == "ok"

    def test_of_memory_is_seen_behind_another_error(self, run):
        assert run("allocate_and_fail_otherwise").code == "memory_limit"

    def test_of_memory_is_seen_in_the_words_of_native_code(self, run):
        assert run("exit_natively_out_of_memory").code == "memory_limit"

    def test_of_processor_time(self, run):
        outcome = run("spin", limits=limited(cpu_seconds=1))
        assert outcome.code == "cpu_limit"
        assert 0.5 < outcome.cpu_seconds < 3

    def test_of_the_size_of_a_file(self, run, tmp_path):
        assert run("write_file", {"megabytes": 40}).code == "file_limit"
        assert (tmp_path / "big").stat().st_size <= 20 << 20

    def test_of_the_disk(self, run):
        assert run("write_to_full_disk").code == "storage_full"

    def test_of_the_count_of_processes(self, run, sandbox):
        outcome = run("fork_many")
        assert outcome.code == "process_limit"
        assert gone([child.pid for child in psutil.Process(sandbox.warm()).children()])

    def test_of_threads_holds_for_native_libraries(self, run):
        for threads in (1, 2):
            result = run("multiply", limits=limited(threads=threads)).result
            assert result["threads"]
            assert set(result["threads"]) == {threads}
            assert result["product"] == 600.0


class TestCrash:
    @pytest.mark.parametrize("target", ["segfault", "abort", "exit_without_a_word"])
    def test_of_native_code_is_named(self, run, target):
        assert run(target).code == "native_crash"

    def test_leaves_a_native_traceback_in_the_log(self, run):
        assert "Segmentation fault" in run("segfault").log_tail

    def test_by_a_foreign_sigkill_is_a_lost_run(self, run):
        outcome = run("be_killed")
        assert (outcome.code, outcome.result) == ("lost", None)

    def test_of_the_helper_is_a_lost_run_and_the_next_one_goes_well(self, tmp_path):
        told = Remembered()
        with Sandbox() as sandbox:

            def kill_helper(progress):
                told.append(progress)
                os.kill(sandbox.warm(), signal.SIGKILL)

            outcome = sandbox.run(f"{TARGETS}:spin", {}, tmp_path, LIMITS, on_progress=kill_helper)
            assert outcome.code == "lost"
            assert gone(told.pids)
            assert sandbox.run(f"{TARGETS}:echo", {}, tmp_path, LIMITS).code == "ok"

    def test_of_an_idle_helper_is_not_noticed(self, tmp_path):
        with Sandbox() as sandbox:
            os.kill(sandbox.warm(), signal.SIGKILL)
            assert sandbox.run(f"{TARGETS}:echo", {}, tmp_path, LIMITS).code == "ok"

    def test_a_stopped_helper_does_not_keep_a_cancelled_child_alive(self, tmp_path):
        told = Remembered()
        with Sandbox() as sandbox:
            helper = sandbox.warm()

            def stop_helper(progress):
                told.append(progress)
                os.kill(helper, signal.SIGSTOP)

            outcome = sandbox.run(
                *(f"{TARGETS}:spin", {}, tmp_path, LIMITS),
                on_progress=stop_helper,
                should_stop=lambda: bool(told),
            )
            os.kill(helper, signal.SIGCONT)
            assert outcome.code == "cancelled"
            assert gone(told.pids)


class TestCancel:
    @pytest.mark.parametrize("target", ["spin", "ignore_sigterm", "sleep"])
    def test_stops_the_processor_within_a_second(self, run, target):
        told = Remembered()
        asked = []

        def should_stop():
            asked.append(time.monotonic())
            return bool(told)

        outcome = run(target, on_progress=told.append, should_stop=should_stop)
        assert outcome.code == "cancelled"
        assert not living(told.pids[0])
        # 0.05 s, and 0.25 s for the one that ignores SIGTERM
        assert time.monotonic() - asked[-1] < 10

    def test_that_comes_too_late_leaves_the_result(self):
        ending = Ending(reason="cancelled", last_words={"result": 1}, exit={"status": 0})
        assert judge(ending, None, "", 0).code == "ok"

    def test_question_that_raises_ends_the_child(self, run):
        told = Remembered()

        def should_stop():
            if told:
                raise LookupError
            return False

        with pytest.raises(LookupError):
            run("spin", on_progress=told.append, should_stop=should_stop)
        assert not living(told.pids[0])


class TestNothingIsLeft:
    @pytest.mark.parametrize("then", ["sleep", "return"])
    def test_of_processes_that_the_target_started(self, run, then):
        told = Remembered()
        outcome = run(
            *("leave_processes_behind", {"then": then}),
            on_progress=told.append,
            should_stop=lambda: then == "sleep" and bool(told),
        )
        assert outcome.code == ("ok" if then == "return" else "cancelled")
        assert len(told.pids) == 4
        assert gone(told.pids)

    def test_of_descriptors(self, run, sandbox):
        helper = psutil.Process(sandbox.warm())
        run("echo")
        before = fewest_descriptors(psutil.Process(), helper)
        for target in ("echo", "segfault", "fail"):
            run(target)
        assert fewest_descriptors(psutil.Process(), helper) == before

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_when_the_worker_dies(self, tmp_path, how):
        worker = start_worker(tmp_path, f"{TARGETS}:start_in_group")
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 3
        assert all(living(pid) for pid in pids)
        worker.send_signal(how)
        worker.wait()
        # 0.02 s on an idle machine
        assert gone(pids, within=20)
        worker.stdout.close()

    def test_when_the_worker_dies_during_the_preload(self, tmp_path):
        worker = start_worker(tmp_path, f"{TARGETS}:echo", preload="sandbox_slow_preload")
        until = time.monotonic() + 60
        while not (children := psutil.Process(worker.pid).children()):
            assert time.monotonic() < until
        time.sleep(0.5)
        worker.kill()
        worker.wait()
        assert gone([child.pid for child in children], within=20)
        worker.stdout.close()


def fewest_descriptors(*processes):
    """Of several looks: the helper opens files in /proc for a moment."""
    looks = []
    for _ in range(20):
        looks.append([process.num_fds() for process in processes])
        time.sleep(0.01)
    return [min(counts) for counts in zip(*looks, strict=True)]


WORKER = """
import sys
from pathlib import Path
from app.kernel.sandbox.parent import Limits, Sandbox

def tell(progress):
    print(*progress["pids"], flush=True)

limits = Limits(wall_seconds=60, memory_bytes=1 << 30, cpu_seconds=60, file_bytes=1 << 20)
Sandbox(sys.argv[3:]).run(sys.argv[1], {}, Path(sys.argv[2]), limits, on_progress=tell)
"""


def start_worker(folder, target, preload=None):
    (folder / "sandbox_slow_preload.py").write_text("import time; time.sleep(30)")
    line = [sys.executable, "-c", WORKER, target, str(folder), *([preload] if preload else [])]
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )


class TestChild:
    def test_lives_in_its_folder_and_session_with_nothing_to_read(self, run, tmp_path):
        found = run("circumstances").result
        assert found["folder"] == str(tmp_path.resolve())
        assert found["session_of_its_own"]
        assert found["stdin"] == ""
        assert found["descriptors"] < 12
        assert found["nice"] >= LIMITS.nice

    def test_gives_way_to_other_sessions_too(self, run):
        """Where Linux groups processes by session, niceness alone let a fit slow predictions."""
        grouped = run("circumstances").result["autogroup"]
        assert grouped is None or int(grouped.rpartition("nice ")[2]) >= LIMITS.nice

    def test_knows_no_secret_of_the_worker(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MODELYARD_SECRET", "s3cret")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        with Sandbox() as sandbox:
            outcome = sandbox.run(f"{TARGETS}:circumstances", {}, tmp_path, LIMITS)
        assert "s3cret" not in outcome.result["environment"].values()
        assert outcome.result["environment"]["TMPDIR"] == str(tmp_path)

    def test_draws_numbers_of_its_own(self, run):
        assert run("multiply").result["draw"] != run("multiply").result["draw"]

    def test_imports_what_the_worker_does_not(self, tmp_path):
        code = WORKER + "print('numpy' in sys.modules)"
        line = [sys.executable, "-c", code, f"{TARGETS}:multiply", str(tmp_path), "numpy"]
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True
        )
        assert done.stdout == "False\n"

    @pytest.mark.slow
    def test_starts_fast_and_fits_with_two_threads_after_a_large_preload(self, tmp_path):
        with Sandbox(["sklearn.ensemble", "pandas"]) as sandbox:
            sandbox.warm()
            starts = []
            for _ in range(9):
                started = time.monotonic()
                sandbox.run(f"{TARGETS}:echo", {}, tmp_path, LIMITS)
                starts.append(time.monotonic() - started)
            outcome = sandbox.run(f"{TARGETS}:fit_forest", {}, tmp_path, limited(threads=2))
        # 0.03 s on an idle machine
        assert min(starts) < 0.15
        assert outcome.code == "ok", outcome
        assert outcome.result > 0.9


@given(st.lists(st.sampled_from(["/work", "/home/ann", "run-1", "a b"]), min_size=1, max_size=4))
def test_a_message_keeps_the_name_and_loses_the_folders(parts):
    path = "/" + "/".join(part.strip("/").replace(" ", "_") for part in parts) + "/table.csv"
    assert _without_folders(f"can't open '{path}'") == "can't open '…/table.csv'"


@pytest.mark.parametrize("message", ["a ratio of 3/4", "http://example.org/a/b", "either/or"])
def test_a_message_keeps_what_is_no_path(message):
    assert _without_folders(message) == message


def test_a_line_that_nests_without_end_is_no_message():
    """Its RecursionError ended the run in the worker, as an error of ours."""
    child, worker = socket.socketpair()
    with child, worker:
        lines = Lines(worker, 1 << 20)
        child.sendall(b"[" * 100_000 + b'\n{"result": 1}\n')
        child.close()
        while lines.read():
            pass
        assert list(lines.messages()) == [{"result": 1}]
