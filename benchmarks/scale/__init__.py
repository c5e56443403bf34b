"""How an installation grows: costs that are measured once, and what follows from them on paper.

``python -m benchmarks.scale measure`` starts servers on the loopback, measures what one of each
thing costs, and writes ``constants.json``. ``check`` lets a real server meet loads that the model
has foretold, and writes how far off it was. ``tell`` writes the tables of docs/scale.md.
"""
