# ruff: noqa: T201, PLC0415 - they print, and import only in the child
"""Functions that the sandbox's tests run in children: good ones, slow ones, and wild ones."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.kernel.errors import Invalid

_GROUPED = Path("/proc/self/autogroup")


def echo(arguments, report):
    return arguments


def circumstances(arguments, report):
    return {
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "stdin": sys.stdin.read(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "nice": os.nice(0),
        "autogroup": _GROUPED.read_text() if _GROUPED.exists() else None,
        "session_of_its_own": os.getsid(0) == os.getpid(),
    }


def count(arguments, report):
    for step in range(arguments["steps"]):
        report({"step": step})
        time.sleep(arguments.get("pause", 0))
    return "counted"


def speak(arguments, report):
    print("on stdout")
    print("on stderr", file=sys.stderr)
    os.write(1, b"from native code\n")


def shout(arguments, report):
    line = b"x" * 1023 + b"\n"
    for _ in range(arguments["kilobytes"]):
        os.write(1, line)
    os.write(1, b"the end\n")


def shout_for_ever(arguments, report):
    while True:
        print("and on", flush=True)


def report_for_ever(arguments, report):
    while True:
        report({"at": time.time()})


def fail(arguments, report):
    Path("/srv/nobody's/secret folder/table.parquet").read_bytes()


def refuse(arguments, report):
    raise Invalid.at("/target", "unknown_column", "There is no such column", ["a", "b"])


class FitError(Exception):
    expected = True
    code = "one_class"


def fail_as_expected(arguments, report):
    raise FitError("The target has one class only")


def answer_not_json(arguments, report):
    return {"value": {1, 2} if arguments["kind"] == "set" else float("nan")}


def answer_at_length(arguments, report):
    return "x" * (9 << 20)


def spin(arguments, report):
    report({"pid": os.getpid()})
    # One native call that holds the interpreter for hours.
    return pow(3, 10**10)


def ignore_sigterm(arguments, report):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report({"pid": os.getpid()})
    time.sleep(60)


def sleep(arguments, report):
    report({"pid": os.getpid()})
    time.sleep(arguments.get("seconds", 60))


def allocate(arguments, report):
    return len(bytearray(arguments["megabytes"] << 20))


def allocate_and_fail_otherwise(arguments, report):
    try:
        bytearray(100 << 30)
    except MemoryError as error:
        raise RuntimeError("the step failed") from error


def segfault(arguments, report):
    ctypes.string_at(0)


def abort(arguments, report):
    os.abort()


def exit_without_a_word(arguments, report):
    os._exit(3)


def exit_natively_out_of_memory(arguments, report):
    os.write(2, b"libgomp: Out of memory allocating 4096 bytes\n")
    os._exit(1)


def be_killed(arguments, report):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(5)


def write_file(arguments, report):
    with Path("big").open("wb") as file:
        file.writelines(b"x" * (1 << 20) for _ in range(arguments["megabytes"]))


def write_to_full_disk(arguments, report):
    Path("/dev/full").write_text("x")


def fork_many(arguments, report):
    """A fork bomb with an end: 150 processes that would stay for a minute."""
    for _ in range(150):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def leave_processes_behind(arguments, report):
    """One in the group, one in a session of its own, and one whose parent is gone."""
    line = [sys.executable, "-c", "import time; time.sleep(60)"]
    pids = [subprocess.Popen(line).pid, subprocess.Popen(line, start_new_session=True).pid]
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.write(writer, str(subprocess.Popen(line).pid).encode())
        os._exit(0)
    pids.append(int(os.read(reader, 20)))
    report({"pids": [os.getpid(), *pids]})
    if arguments["then"] == "sleep":
        time.sleep(60)


def start_in_group(arguments, report):
    line = [sys.executable, "-c", "import time; time.sleep(60)"]
    report({"pids": [os.getpid(), os.getppid(), subprocess.Popen(line).pid]})
    spin(arguments, lambda _: None)


def multiply(arguments, report):
    """The thread counts of the native libraries, and one product of matrices."""
    import numpy as np
    import threadpoolctl

    big = np.ones((600, 600))
    return {
        "product": float((big @ big)[0, 0]),
        "threads": [pool["num_threads"] for pool in threadpoolctl.threadpool_info()],
        "draw": float(np.random.random()),
    }


def fit_forest(arguments, report):
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    features = np.random.default_rng(0).normal(size=(2000, 5))
    model = HistGradientBoostingClassifier(max_iter=20).fit(features, features[:, 0] > 0)
    return model.score(features, features[:, 0] > 0)
