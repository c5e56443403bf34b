"""Fault points: what a rule says happens, when it says so, and nothing else."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.kernel import faults

APP = Path(faults.__file__).parents[1]
POINT = re.compile(r'faults\.hit\("([^"]+)"\)')


def test_nothing_happens_without_rules() -> None:
    faults.hit("somewhere")


def test_the_nth_hit_fails_and_only_that_one() -> None:
    rule = faults.parse("disk=ENOSPC@2")["disk"]
    rule.hit()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        rule.hit()
    assert caught.value.errno == errno.ENOSPC
    rule.hit()


def test_chance_follows_the_seed() -> None:
    def failures(seed: str) -> list[bool]:
        rule = faults.parse("disk=EIO@0.5", seed)["disk"]
        outcomes = []
        for _ in range(40):
            try:
                rule.hit()
                outcomes.append(False)
            except OSError:
                outcomes.append(True)
        return outcomes

    assert failures("1") == failures("1")
    assert failures("1") != failures("2")
    assert 5 < sum(failures("1")) < 35


def test_a_process_dies_at_its_point() -> None:
    code = "from app.kernel import faults; faults.hit('here'); print('alive')"
    environment = {**os.environ, faults.VARIABLE: "here=kill@1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-9, b"")


@pytest.mark.parametrize("text", ["here", "here=kill", "here=explode@1", "here=kill@often"])
def test_a_rule_that_cannot_be_read_stops_the_process(text: str) -> None:
    with pytest.raises((ValueError, AttributeError)):
        faults.parse(text)


def test_each_point_stands_at_one_place() -> None:
    files = [path for path in APP.rglob("*.py") if path.name != "faults.py"]
    found = [name for path in files for name in POINT.findall(path.read_text())]
    assert len(found) == len(set(found))
