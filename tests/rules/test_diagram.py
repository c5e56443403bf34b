"""The picture of the services says what the code says, and follows it."""

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from app.examination import ASKED
from app.settings_table import SERVICES
from tools import diagram
from tools.wired import Ask, Unreadable, read_wiring

ROOT = Path(__file__).parents[2]
HOLD = Ask("POST", "/datasets/{}/holds", "datasets:hold")


@pytest.fixture(scope="module")
def app(furnished):
    return furnished.app


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the wiring is read from."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def planted(checkout, line):
    """Wiring with one more property of the kind."""
    with (checkout / "app" / "wiring.py").open("a") as wiring:
        wiring.write(f"\n    def planted(self):\n        return {line}\n")
    return checkout


def test_the_file_is_fresh_and_well_formed(capsys):
    assert diagram.main(["--check"]) == 0, capsys.readouterr().out
    assert ET.parse(diagram.FILE).getroot().tag.endswith("svg")


def test_a_stale_picture_is_shown_and_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(diagram, "picture", lambda: "<svg/>\n")
    monkeypatch.setattr(diagram, "FILE", tmp_path / "diagram.svg")
    assert diagram.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().out
    assert diagram.main([]) == 0
    assert diagram.main(["--check"]) == 0


def test_it_has_every_service_call_and_floor(app):
    wired = read_wiring(ROOT, app)
    assert wired.asks["training", "datasets"] == {HOLD}
    assert {caller for caller, callee in wired.asks if callee == "access"} == {*SERVICES[1:]}
    assert {ask.scope for ask in wired.asks["datasets", "models"]} == {"references:read"}
    assert ("training", "streams") not in wired.asks
    assert {(caller, name) for caller in ASKED for name in ASKED[caller]} == {*wired.asks}
    assert "record log" in wired.stands_on["streams"]
    assert wired.stands_on["access"] == {"database"}
    assert [*SERVICES] in wired.floors
    drawn = diagram.draw(wired)
    assert drawn.count('marker-end="') == len(wired.asks)
    assert "streams asks predictions: POST /models/../predict" in drawn


def test_a_new_call_between_services_appears(checkout, app):
    planted(checkout, 'TrainingDatasetsPeer(self.peer("models", "datasets"))')
    assert read_wiring(checkout, app).asks["models", "datasets"] == {HOLD}


@pytest.mark.parametrize(
    "line",
    [
        'TrainingDatasetsPeer(self.peer("models", anybody()))',
        'Unheard(self.peer("models", "datasets"))',
        'self.peer("models", "datasets")',
        'TrainingDatasetsPeer(self.peer("datasets", "access"))',
        "TrainingDatasetsPeer(self.database())",
        "TrainingDatasetsPeer(self.socket(*anything))",
    ],
)
def test_what_can_not_be_read_is_not_left_out_in_silence(checkout, app, line):
    planted(checkout, line)
    with pytest.raises(Unreadable):
        read_wiring(checkout, app)


def test_one_call_of_several_that_nobody_answers_is_not_left_out(checkout, app):
    planted(checkout, 'Odd(self.peer("models", "datasets"))')
    with (checkout / "app" / "wiring.py").open("a") as wiring:
        wiring.write("\nfrom app.training.odd import Odd\n")
    holds = 'peer.ask(call, "POST", f"/datasets/{name}/holds", scope="datasets:hold")'
    missed = 'peer.ask(call, "GET", "/renamed", scope="datasets:hold")'
    odd = checkout / "app" / "training" / "odd.py"
    odd.write_text(f"def Odd(peer, call, name):\n    {holds}\n")
    assert read_wiring(checkout, app).asks["models", "datasets"] == {HOLD}
    odd.write_text(f"def Odd(peer, call, name):\n    {holds}\n    {missed}\n")
    with pytest.raises(Unreadable, match="/renamed"):
        read_wiring(checkout, app)
