"""Large regular files are read by processes, which end with their conversion whatever happens."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from app.datasets.ingest import run
from app.datasets.ingest.regular import block_reader, conversion, likely, regular_file
from app.datasets.ingest.regular.block_reader import BlockReader, Lines
from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.reading_process import ReadingProcess
from tests.datasets.tables import Tables

TYPES = ("integer", "number", "string", "boolean", "datetime")
NAMES = "\n".join([",".join(TYPES), ""])


def lines(count=2_000, seed=1):
    """Rows with a column of every type, some cells missing."""
    draw = random.Random(seed)
    cells = [
        (str(number - 50), f"{draw.random():.6f}", draw.choice("ab") * 12, "true", "2020-02-29")
        for number in range(count)
    ]
    missing = [("", "NA", "None", "", "NaT")] * 3
    return "".join(",".join(row) + "\n" for row in [*cells, *missing])


def in_processes():
    """Our children that read blocks."""
    name = ReadingProcess.__module__
    return [one for one in psutil.Process().children() if name in one.cmdline()]


def told(block):
    """A block as what may be compared."""
    columns = [
        (
            [None if buffer is None else buffer.tobytes() for buffer in column.buffers],
            column.missing,
            column.counts if isinstance(column.counts, dict) else plain(column.counts),
            plain(column.sampled),
        )
        for column in block.columns
    ]
    return block.rows, bytes(block.text), columns


def plain(counted):
    """Counts as lists."""
    return counted and [side.tolist() for side in counted]


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Any file is large enough for processes."""
    monkeypatch.setattr(conversion, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr(likely, "LEAST_BYTES", 0)
    monkeypatch.setattr(regular_file, "_SAMPLE_BYTES", 8_000)
    monkeypatch.setattr(regular_file, "_BLOCK", 20_000)
    return Tables(tmp_path)


@pytest.fixture
def reader():
    return BlockReader(TYPES, ",", 1 << 30)


def test_a_process_reads_what_we_would(reader):
    blocks = [
        Lines(0, lines().encode(), [True] * 5),
        Lines(2_003, lines(seed=2).encode(), [False, True] * 2 + [False]),
        Lines(0, b"1,2,\xff\xfe,true,2020-02-29\n", [True] * 5),
        Lines(4_006, lines(1).encode(), [True] * 5),
    ]
    with ReadingProcess(reader) as process:
        for block in blocks:
            if b"\xff" in block.text:
                with pytest.raises(Irregular):
                    process.read(block)
            else:
                assert told(process.read(block)) == told(reader.read(block))
    assert in_processes() == []


def test_a_file_is_the_same_table_either_way(tables, monkeypatch):
    text = NAMES + lines(5_000)
    monkeypatch.setattr(block_reader.BlockReader, "read", None)
    apart = tables.ingest(text)
    monkeypatch.undo()

    usual = tables.ingest(text)

    assert apart.result.digest == usual.result.digest
    assert apart.result.columns == usual.result.columns
    assert in_processes() == []


def test_where_a_process_dies_the_file_is_read_the_usual_way(tables, monkeypatch):
    killed = []
    read = ReadingProcess.read

    def kill_third(process, block):
        killed.append(block)
        if len(killed) == 3:
            for one in in_processes():
                one.kill()
        return read(process, block)

    monkeypatch.setattr(ReadingProcess, "read", kill_third)
    logged = []
    monkeypatch.setattr(run.log, "warning", lambda event, **_: logged.append(event))

    table = tables.ingest(NAMES + lines(5_000))

    assert len(killed) >= 3
    assert table.result.rows == 5_003
    assert logged == ["reader_died"]
    assert in_processes() == []


def test_what_a_progress_raises_ends_the_processes(tables, monkeypatch):
    seen = []

    def cancel(fraction, step):
        if step == "writing":
            seen.append(step)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.ingest(NAMES + lines(5_000), progress=cancel)
    assert seen
    assert in_processes() == []
    assert tables.left() == []


_STARTED = """
import time
from app.datasets.ingest.regular.block_reader import BlockReader, Lines
from app.datasets.ingest.regular.reading_process import ReadingProcess

process = ReadingProcess(BlockReader(("integer",) * 2, ",", None))
process.read(Lines(0, b"1,2\\n", [True, True]))
print(process._process.pid, flush=True)
time.sleep(600)
"""


def test_a_process_ends_when_the_one_that_started_it_is_killed():
    with subprocess.Popen([sys.executable, "-c", _STARTED], stdout=subprocess.PIPE) as starter:
        pid = int(starter.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(starter.pid, signal.SIGKILL)

    give_up = time.monotonic() + 15
    while psutil.pid_exists(pid) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)
