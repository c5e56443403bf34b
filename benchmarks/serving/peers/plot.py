"""Draw the rates of a result as an SVG, where one row was asked about by eight clients:
``plot.py result.json out.svg``.
"""

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

mpl.rcParams["svg.hashsalt"] = "modelyard"
mpl.rcParams["svg.fonttype"] = "none"
result = json.loads(Path(sys.argv[1]).read_text())
cases = [case for case in result["cases"] if case.endswith("1 row, 8 clients")]
if not cases:
    sys.exit()
systems = [name for name in result["systems"] if name != "echo"]
figure, axes = plt.subplots(1, len(cases), figsize=(4 * len(cases), 3), sharey=True)
for axis, case in zip(axes, cases, strict=True):
    rates = {name: [one["rate"] for one in result["cases"][case][name]] for name in systems}
    middles = [median(rates[name]) for name in systems]
    spread = [
        [middle - min(rates[name]) for middle, name in zip(middles, systems, strict=True)],
        [max(rates[name]) - middle for middle, name in zip(middles, systems, strict=True)],
    ]
    colours = ["#2266aa" if name.startswith("modelyard") else "#aaaaaa" for name in systems]
    axis.barh(systems, middles, xerr=spread, color=colours)
    axis.set_xscale("log")
    axis.set_title(case, fontsize=9)
    axis.set_xlabel("requests a second (log)", fontsize=8)
axes[0].invert_yaxis()
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None})
