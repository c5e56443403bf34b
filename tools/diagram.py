"""Draws docs/diagram.svg: the services, what they ask of one another, and what they stand on.

All of it is read from the code (see wired). ``python -m tools.diagram`` writes the file; with
``--check`` it writes nothing, and ends with 1 if the file says something else than the code.
"""

import difflib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from app.config import Settings
from app.factory import create_app
from app.settings_table import SERVICES
from app.wiring import Wiring
from tools.wired import ANYTHING, Ask, Wired, read_wiring

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "diagram.svg"
_LEFT, _COLUMN, _MARGIN = 140, 172, 20
_WIDTH = _LEFT + len(SERVICES) * _COLUMN + 2 * _MARGIN
_LINE, _PORT, _BOX = 18, 16, 56
_COLOURS = dict(
    zip(SERVICES, ("#6b7280", "#0f766e", "#b45309", "#7c3aed", "#be123c", "#1d4ed8"), strict=True)
)
_STYLE = """
  text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #111827; }
  .title { font-size: 20px; font-weight: 600; } .head { font-size: 15px; font-weight: 600; }
  .note { fill: #4b5563; } .name { font-size: 16px; font-weight: 600; fill: #fff; }
  .side { text-anchor: end; font-weight: 600; } .middle { text-anchor: middle; }
  .arc { fill: none; stroke-width: 2; } .rail { stroke-width: 1; stroke-dasharray: 4 4; }
  .rule { stroke: #d1d5db; }
"""
Pair = tuple[str, str]


def draw(wired: Wired) -> str:
    """The picture as SVG; the same bytes for the same code."""
    below: list[str] = []
    top = 74 + _height(wired, above=True)
    y = top + _BOX + _height(wired, above=False) + 16
    for section in (_matrix, _foundations, _floors):
        lines, y = section(wired, y)
        below += lines
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}"'
            f' height="{y}" role="img" aria-labelledby="title">'
        ),
        '<title id="title">The services of Modelyard and what they ask of one another</title>',
        f"<style>{_STYLE}</style>",
        "<defs>",
        *(_arrowhead(name) for name in SERVICES),
        "</defs>",
        f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>',
        _text(_MARGIN, 34, "The services, and what they ask of one another over REST", "title"),
        _text(_MARGIN, 56, _LEGEND, "note"),
        *_arcs(wired, top),
        *(_box(name, top) for name in SERVICES),
        *below,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


_LEGEND = (
    "An arrow has the colour of who asks. Dashed: what every service asks of one, or one of every."
)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{mark}>{escape(text)}</text>'


def _arrowhead(name: str) -> str:
    return (
        f'<marker id="to-{name}" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto"'
        f' markerUnits="userSpaceOnUse"><path d="M0 0 L9 4 L0 8 z" fill="{_COLOURS[name]}"/>'
        "</marker>"
    )


def _left_of(name: str) -> int:
    return _MARGIN + _LEFT + SERVICES.index(name) * _COLUMN


def _box(name: str, y: int) -> str:
    x, width = _left_of(name) + 4, _COLUMN - 8
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{_BOX}" rx="8" fill="{_COLOURS[name]}"/>'
        + _text(x + width / 2, y + _BOX / 2 + 6, name, "name middle")
    )


def _is_above(pair: Pair) -> bool:
    """Arrows to the right go above the boxes, those to the left below."""
    return SERVICES.index(pair[0]) < SERVICES.index(pair[1])


def _distance(pair: Pair) -> int:
    return abs(SERVICES.index(pair[0]) - SERVICES.index(pair[1]))


def _rise(pair: Pair) -> int:
    return 18 + 24 * _distance(pair)


def _height(wired: Wired, *, above: bool) -> int:
    return max((_rise(pair) for pair in wired.asks if _is_above(pair) == above), default=0)


def _ports(pairs: Sequence[Pair]) -> dict[tuple[str, Pair], float]:
    """Where each arrow leaves or meets a box, so that arrows lie inside one another."""
    found = {}
    for name in SERVICES:
        here = [pair for pair in pairs if name in pair]
        others = {pair: pair[pair[0] == name] for pair in here}
        place = SERVICES.index(name)
        left = [pair for pair in here if SERVICES.index(others[pair]) < place]
        right = [pair for pair in here if pair not in left]
        ordered = sorted(left, key=_distance) + sorted(right, key=_distance, reverse=True)
        first = _left_of(name) + _COLUMN / 2 - _PORT * (len(ordered) - 1) / 2
        for number, pair in enumerate(ordered):
            found[name, pair] = first + number * _PORT
    return found


def _arcs(wired: Wired, top: int) -> Iterator[str]:
    rails = set(_rails(wired))
    for above in (True, False):
        pairs = sorted(pair for pair in wired.asks if _is_above(pair) == above)
        ports = _ports(pairs)
        for pair in pairs:
            caller, callee = pair
            start, end = ports[caller, pair], ports[callee, pair]
            y = top if above else top + _BOX
            bend = y - _rise(pair) * 4 / 3 if above else y + _rise(pair) * 4 / 3
            kind = "arc rail" if pair in rails else "arc"
            yield (
                f'<path class="{kind}" stroke="{_COLOURS[caller]}" marker-end="url(#to-{caller})"'
                f' d="M{start:g} {y} C{start:g} {bend:g} {end:g} {bend:g} {end:g} {y}">'
                f"<title>{escape(f'{caller} asks {callee}: {_told(wired.asks[pair])}')}</title>"
                "</path>"
            )


def _rails(wired: Wired) -> Iterator[Pair]:
    """Pairs that say the same for every service at their other end."""
    for pair, asks in wired.asks.items():
        for end in (0, 1):
            alike = [one for one, said in wired.asks.items() if one[end] == pair[end]]
            same = [one for one in alike if wired.asks[one] == asks]
            if len(same) == len(SERVICES) - 1:
                yield pair


def _told(asks: set[Ask]) -> str:
    return ", ".join(f"{ask.method} {ask.path.replace(ANYTHING, '..')}" for ask in sorted(asks))


def _headed(title: str, note: str, y: int) -> list[str]:
    return [_text(_MARGIN, y + 20, title, "head"), _text(_MARGIN, y + 40, note, "note")]


def _rule(y: float) -> str:
    return f'<line class="rule" x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y:g}" y2="{y:g}"/>'


def _columns(y: int) -> Iterator[str]:
    for name in SERVICES:
        yield _text(_left_of(name) + _COLUMN / 2, y, name, "middle head")


def _matrix(wired: Wired, y: int) -> tuple[list[str], int]:
    """Rows ask, columns answer; a cell has the scopes of the calls."""
    note = (
        "A row asks, a column answers; each call carries a token with this one scope."
        " events:read: it follows what happens there."
    )
    lines = [*_headed("Who asks whom for what", note, y), *_columns(y + 66)]
    y += 76
    for caller in SERVICES:
        cells = {
            callee: sorted({ask.scope for ask in wired.asks.get((caller, callee), ())})
            for callee in SERVICES
        }
        height = _LINE * max(1, *map(len, cells.values())) + 10
        lines += [_rule(y), _text(_MARGIN + _LEFT - 12, y + _LINE, f"{caller} asks", "side")]
        for callee, scopes in cells.items():
            middle = _left_of(callee) + _COLUMN / 2
            if callee == caller:
                x = _left_of(callee) + 4
                lines.append(
                    f'<rect x="{x}" y="{y + 3}" width="{_COLUMN - 8}" height="{height - 6}"'
                    ' rx="4" fill="#f3f4f6"/>'
                )
            for number, scope in enumerate(scopes, 1):
                lines.append(_text(middle, y + number * _LINE, scope, "middle"))
        y += height
    return [*lines, _rule(y)], y + 14


def _foundations(wired: Wired, y: int) -> tuple[list[str], int]:
    """A dot where a service is handed a thing."""
    note = (
        "What each is handed by the wiring. The database is its own: nobody else reads its tables."
    )
    lines = [*_headed("What each stands on", note, y)]
    y += 52
    things = sorted({thing for found in wired.stands_on.values() for thing in found})
    for thing in sorted(things, key=lambda one: -sum(one in f for f in wired.stands_on.values())):
        lines += [_rule(y), _text(_MARGIN + _LEFT - 12, y + _LINE, thing, "side")]
        for name in SERVICES:
            if thing in wired.stands_on.get(name, ()):
                middle = _left_of(name) + _COLUMN / 2
                lines.append(
                    f'<circle cx="{middle:g}" cy="{y + 13}" r="6" fill="{_COLOURS[name]}"/>'
                )
        y += _LINE + 8
    return [*lines, _rule(y)], y + 14


def _floors(wired: Wired, y: int) -> tuple[list[str], int]:
    """The layers, the highest first."""
    note = "A module may import what lies on a floor below its own, and nothing of its neighbours."
    lines = [*_headed("The floors of the house", note, y)]
    y += 52
    for floor in wired.floors:
        width = (_WIDTH - 2 * _MARGIN) / len(floor)
        for number, name in enumerate(floor):
            x = _MARGIN + number * width
            fill = _COLOURS.get(name, "#e5e7eb")
            kind = "name middle" if name in SERVICES else "middle"
            lines.append(
                f'<rect x="{x + 2:g}" y="{y}" width="{width - 4:g}" height="24" rx="4"'
                f' fill="{fill}"/>' + _text(x + width / 2, y + 17, name, kind)
            )
        y += 28
    return lines, y + _MARGIN


def picture() -> str:
    """What the file should hold."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"MODELYARD_HOME": home})
        wiring = Wiring(settings)
        try:
            return draw(read_wiring(ROOT, create_app(settings, wiring)))
        finally:
            wiring.close()


def main(arguments: list[str]) -> int:
    """Write the file, or with ``--check`` compare it; the answer is the exit status."""
    made = picture()
    if arguments != ["--check"]:
        FILE.write_text(made, encoding="utf-8")
        return 0
    written = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    name = FILE.name
    lines = (written.splitlines(), made.splitlines(), name, f"{name} (drawn)")
    found = list(difflib.unified_diff(*lines, lineterm=""))
    print("\n".join([*found, "docs/diagram.svg is stale: make docs", ""]) if found else "", end="")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
