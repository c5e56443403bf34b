"""Nothing in the repository says where packages come from, or where somebody's checkout lies."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each name is spelt in two parts, so that this file doesn't hold what it looks for.
HOSTS = [
    "pypi." + "org",
    "python" + "hosted",
    "npmjs." + "org",
    "npmjs." + "com",
    "yarnpkg." + "com",
]
OPTIONS = ["--index" + "-url", "--extra" + "-index-url", "--find" + "-links", "--trusted" + "-host"]
PATHS = [f"{ROOT}/", f"{Path.home()}/"]
FORBIDDEN = re.compile("|".join(map(re.escape, HOSTS + OPTIONS + PATHS)))


def committable_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_registry_host_and_no_path_of_this_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in committable_files()
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "files.python" + "hosted.org/packages",
        "--index" + "-url x",
        f"cp {ROOT}/app .",
        f"cache: {Path.home()}/.cache",
        '"resolved": "https://registry.npmjs.' + 'org/x"',
    ],
)
def test_such_a_line_is_noticed(line):
    assert FORBIDDEN.search(line)
