"""Tables of a comparison: medians of rounds, and medians of per-round ratios."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

OURS = ("modelyard", "modelyard-all-cores")
Rounds = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""By case, by system: what each round measured."""


def ratios(rounds: Rounds, case: str, of: str, to: str) -> list[float]:
    """The rate of one system over that of another, round by round."""
    pairs = zip(rounds[case][of], rounds[case][to], strict=True)
    return [one["rate"] / other["rate"] for one, other in pairs]


def spread(numbers: Sequence[float], digits: int = 0) -> str:
    """The median, and the least and greatest."""
    low, high = min(numbers), max(numbers)
    return f"{median(numbers):.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def table_of(rounds: Rounds, case: str) -> str:
    """One case: a line for each system."""
    ours = [name for name in rounds[case] if name in OURS]
    heads = ["system", "requests/s", "p50 ms", "p99 ms", "CPU us/request"]
    heads += [f"{name} over it" for name in ours]
    lines = [f"### {case}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for system, measured in rounds[case].items():
        cells = [
            spread([one["rate"] for one in measured]),
            f"{median(one['p50'] for one in measured):.2f}",
            f"{median(one['p99'] for one in measured):.2f}",
            spread([one["cpu"] for one in measured]),
            *(
                "" if system in OURS else spread(ratios(rounds, case, name, system), 1)
                for name in ours
            ),
        ]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def page(result: Mapping[str, Any]) -> str:
    """The whole result as Markdown."""
    lines = [
        _how(result),
        "",
        *(table_of(result["cases"], case) for case in result["cases"]),
        "### Memory and start",
        "",
        "| system | PSS, idle, MB | start to every model answering, s |",
        "|---|---|---|",
        *(
            f"| {name} | {told['idle_bytes'] / 1e6:.0f} | {told['start_seconds']:.1f} |"
            for name, told in result["systems"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _how(result: Mapping[str, Any]) -> str:
    return (
        f"Run on {result['date']}: {result['machine']}. {result['rounds']} rounds of"
        f" {result['seconds']} s each, interleaved; medians, and [least-greatest]."
    )
