"""The documentation says what the code says, and its links lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from app.access.service import SCOPES
from app.demo import main_calls
from app.settings_table import SETTINGS
from tools import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
HTTP_METHODS = {"get", "post", "put", "patch", "delete"}


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_reference(setting):
    assert f"| `{setting.env}` |" in page("settings.md")


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_is_in_the_reference(scope):
    assert f"| `{scope}` |" in page("scopes.md")


def test_every_route_is_in_the_reference():
    paths = yaml.load((ROOT / "openapi.yaml").read_text(), yaml.CSafeLoader)["paths"]
    routes = {
        f"{m.upper()} {path}" for path, item in paths.items() for m in item if m in HTTP_METHODS
    }
    told = set(re.findall(r"^### `(.+)`$", page("routes.md"), re.MULTILINE))
    assert told == routes
    assert routes


def test_the_generated_pages_are_fresh():
    assert list(reference.changes()) == []


def test_a_stale_page_is_shown_and_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "+| `MODELYARD_PORT` |" in capsys.readouterr().out
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text()
    told = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)]+\.md)\)", index)}
    written = {path for path in DOCS.rglob("*.md") if path.parent.name != "adr"}
    assert written - told == {DOCS / "index.md"}


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_the_calls_of_the_readme_are_those_of_the_demo(name):
    text = (ROOT / name).read_text()
    for call in main_calls("examples/penguins.csv"):
        assert call.curl("http://127.0.0.1:8080") in text


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    groups += project["project"]["optional-dependencies"].values()
    names = {re.match(r"[A-Za-z0-9-]+", line)[0] for group in groups for line in group}
    rows = re.findall(r"^\| ([^|]+) \|", (DOCS / "dependencies.md").read_text(), re.MULTILINE)
    told = {word for row in rows for word in re.split(r"[ ,()`]+", row)}
    assert names - told == set()


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in PAGES:
        named = set(re.findall(r"`make ([a-z]+)", path.read_text()))
        assert named - targets == set(), path


def test_every_metric_is_in_the_reference_and_no_other():
    code = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    made = set(re.findall(r'"(modelyard_[a-z_]+)"', code))
    told = set(re.findall(r"`(modelyard_[a-z_]+)`", page("metrics.md")))
    assert len(made) > 10
    assert made == told
