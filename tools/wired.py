"""What services stand on and what they ask of one another, read from the code that wires them.

Whatever is written in a way that can't be read here raises Unreadable: nothing is left out in
silence.
"""

import ast
import configparser
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from flask import Flask

from app.kernel.peers import PREFIX
from app.settings_table import SERVICES

ANYTHING = "{}"
"""Stands for what a path of a call leaves open."""
_BOTH_TRAILS = ("/events", "/audit")
"""Every service answers these about itself."""
_EXAMINES = "examination.py"
"""It asks those whom its service asks anyway: ``ASKED``, which a test compares with this."""


class Unreadable(Exception):
    """A place of the code that says something in a way that isn't understood here."""


@dataclass(frozen=True, order=True)
class Ask:
    """One kind of call between services."""

    method: str
    path: str
    scope: str


@dataclass
class Wired:
    """What the code says: calls by caller and callee, what each service stands on, the floors."""

    asks: dict[tuple[str, str], set[Ask]] = field(default_factory=dict)
    stands_on: dict[str, set[str]] = field(default_factory=dict)
    floors: list[list[str]] = field(default_factory=list)


def read_wiring(root: Path, app: Flask) -> Wired:
    """Read a checkout; ``app`` is one of all services. Raises Unreadable."""
    found = Wired(floors=floors(root / ".importlinter"))
    owners = dict(_routes(app))
    for path in sorted(set((root / "app").glob("*.py")) - {root / "app" / _EXAMINES}):
        module = _Module(ast.parse(path.read_text(encoding="utf-8")), path.name, root)
        for service, thing in module.foundations():
            found.stands_on.setdefault(service, set()).add(thing)
        for caller, callee, asks in module.peers():
            wanted = {ask for ask in asks if _answers(callee, ask, owners)}
            for ask in asks - wanted:
                if not any(_answers(service, ask, owners) for service in SERVICES):
                    raise Unreadable(f"{path.name}: nobody has a route for {ask}")
            if not wanted:
                raise Unreadable(f"{path.name}: {callee} has no route for what {caller} asks")
            found.asks.setdefault((caller, callee), set()).update(wanted)
    return found


def floors(rules: Path) -> list[list[str]]:
    """The layers of the house, the highest first."""
    parser = configparser.ConfigParser()
    parser.read(rules, encoding="utf-8")
    lines = parser["importlinter:contract:house"]["layers"].strip().splitlines()
    return [re.findall(r"\w+", line) for line in lines]


def service_of(app: Flask, endpoint: str) -> str:
    """Whose route it is."""
    return app.view_functions[endpoint].__module__.split(".")[1]


def _routes(app: Flask) -> Iterator[tuple[tuple[str, str], str]]:
    """Each route's method and path below the prefix, with the service that has it."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(PREFIX):
            path = re.sub(r"<[^>]+>", ANYTHING, rule.rule.removeprefix(PREFIX))
            for method in rule.methods or ():
                yield (method, path), service_of(app, rule.endpoint)


def _answers(callee: str, ask: Ask, owners: dict[tuple[str, str], str]) -> bool:
    """Whether a call can be meant for a service."""
    if ask.path in _BOTH_TRAILS:
        return True
    return any(
        owner == callee and method == ask.method and _fits(ask.path, path, callee)
        for (method, path), owner in owners.items()
    )


def _fits(asked: str, path: str, callee: str) -> bool:
    """Whether a path of a call is one of a route; what it leaves open may be the callee's name."""
    ours, theirs = asked.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(
        one == other or (one == ANYTHING and other in (ANYTHING, callee))
        for one, other in zip(ours, theirs, strict=True)
    )


class _Module:
    """One module that wires."""

    def __init__(self, tree: ast.Module, name: str, root: Path) -> None:
        self._tree, self._name, self._root = tree, name, root
        self._parents = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self._imported = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def foundations(self) -> Iterator[tuple[str, str]]:
        """Each service with a thing that something of it is handed."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                module, _ = self._imported.get(node.func.id, ("", ""))
                service = ([*module.split("."), ""])[1]
                if service in SERVICES:
                    yield from ((service, thing) for thing in _handed(node))

    def peers(self) -> Iterator[tuple[str, str, set[Ask]]]:
        """Each caller and callee with what is asked by those who are handed the peer."""
        for node in _calls_of(self._tree, "peer"):
            if len(node.args) != 2:
                raise self._unreadable(node)
            asks = self._asked_by(self._holder(node))
            for caller in self._values(node.args[0]):
                for callee in self._values(node.args[1]):
                    if caller != callee:
                        yield caller, callee, asks

    def _values(self, node: ast.expr) -> Iterable[str]:
        """The services that an expression can mean."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if ast.unparse(node).endswith("settings.services[0]"):
            return SERVICES
        if isinstance(node, ast.Name):
            for above in self._above(node):
                for part in getattr(above, "generators", ()):
                    if ast.unparse(part.target) == node.id:
                        return self._members(part.iter)
        raise self._unreadable(node)

    def _members(self, node: ast.expr) -> Iterable[str]:
        if isinstance(node, ast.Tuple):
            return [str(ast.literal_eval(item)) for item in node.elts]
        if isinstance(node, ast.Name) and node.id in self._imported:
            module, name = self._imported[node.id]
            members: tuple[str, ...] = getattr(import_module(module), name)
            return members
        if ast.unparse(node) == "apart.values()":
            return SERVICES
        raise self._unreadable(node)

    def _holder(self, node: ast.AST) -> str:
        """The name of what is handed the peer."""
        for above in self._above(node):
            if isinstance(above, ast.Call) and isinstance(above.func, ast.Name):
                return above.func.id
            if isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name):
                return self._handed_on(above, above.targets[0].id)
        raise self._unreadable(node)

    def _handed_on(self, node: ast.AST, name: str) -> str:
        """The name of what is handed a variable."""
        function = next(one for one in self._above(node) if isinstance(one, ast.FunctionDef))
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if name in {ast.unparse(given).lstrip("*") for given in call.args}:
                return call.func.id
        raise self._unreadable(node)

    def _asked_by(self, name: str) -> set[Ask]:
        """The calls in a class or a function that is imported here."""
        if name not in self._imported:
            raise Unreadable(f"{self._name}: {name} is not imported")
        module, real = self._imported[name]
        path = self._root.joinpath(*module.split(".")).with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == real:
                return {_ask(call, node, path.name) for call in _calls_of(node, "ask")}
        raise Unreadable(f"{self._name}: there is no {name} in {module}")

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self._parents:
            node = self._parents[node]
            yield node

    def _unreadable(self, node: ast.AST) -> Unreadable:
        return Unreadable(f"{self._name}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}")


def _handed(call: ast.Call) -> Iterator[str]:
    """What a constructor is handed of what lies below the services."""
    for node in ast.walk(call):
        if isinstance(node, ast.Attribute) and node.attr in ("store", "record_log"):
            yield {"store": "artifact store", "record_log": "record log"}[node.attr]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            if node.func.attr == "jobs":
                yield "workers"
            if node.func.attr in ("database", "socket") and not given:
                raise Unreadable(f"{call.lineno}: {ast.unparse(node)}")
            if node.func.attr == "database":
                yield "database"
            if node.func.attr == "socket":
                yield f"{str(given[0]).rpartition('/')[2]} process"


def _calls_of(node: ast.AST, method: str) -> Iterator[ast.Call]:
    for found in ast.walk(node):
        if not isinstance(found, ast.Call) or not isinstance(found.func, ast.Attribute):
            continue
        if found.func.attr == method:
            yield found


def _ask(call: ast.Call, within: ast.AST, file: str) -> Ask:
    """One call of a peer, read from its arguments."""
    scope = next((given.value for given in call.keywords if given.arg == "scope"), None)
    if len(call.args) < 3 or not isinstance(scope, ast.Constant):
        raise Unreadable(f"{file}:{call.lineno}: {ast.unparse(call)}")
    method, path = call.args[1], call.args[2]
    if isinstance(path, ast.Name):
        path = _assigned(path.id, call, within, file)
    return Ask(str(ast.literal_eval(method)), _template(path, file), str(scope.value))


def _assigned(name: str, call: ast.Call, within: ast.AST, file: str) -> ast.expr:
    """What a variable was last given before a call."""
    lines = [
        (node.lineno, node.value)
        for node in ast.walk(within)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == name
        and node.lineno < call.lineno
    ]
    if not lines:
        raise Unreadable(f"{file}:{call.lineno}: {name}")
    return max(lines, key=lambda line: line[0])[1]


def _template(path: ast.expr, file: str) -> str:
    """A path with gaps where it isn't constant."""
    if isinstance(path, ast.Constant):
        return str(path.value)
    if isinstance(path, ast.JoinedStr):
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in path.values
        ]
        return "".join(parts)
    raise Unreadable(f"{file}:{path.lineno}: {ast.unparse(path)}")
