"""Decides by type whether a skops schema may be built, before skops sees it.

Every object of the tree whose ``__loader__`` makes it a node must be of a kind that is listed here
and name a type that is listed for this kind; skops' own idea of trusted types (all of
scikit-learn's estimators, all of numpy's and scipy's functions) is wider, and has had holes. What
estimators may be in it is what a model of ours may hold (``scoring.loader_allowed``), without the
types whose inner arrays native code follows blindly and which can't be checked or made anew.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.models.skops.archive import Archive, refused
from app.scoring.loader_allowed import ALLOWED

PROTOCOLS: Final = (1, 2)
MAX_NODES: Final = 5_000_000
_KD_TREES: Final = {"sklearn.neighbors._kd_tree.KDTree", "sklearn.neighbors._ball_tree.BallTree"}
_UNCHECKABLE: Final = {
    *("sklearn.cluster._bisect_k_means.BisectingKMeans", "sklearn.tree._tree.Tree"),
    *("sklearn.cluster._bisect_k_means._BisectingTree",),
    *("sklearn.preprocessing._polynomial.SplineTransformer", *_KD_TREES),
    *("sklearn.random_projection.SparseRandomProjection",),
}
_SCORE_FUNCTIONS: Final = {
    f"sklearn.feature_selection._univariate_selection.{name}"
    for name in ("f_classif", "f_regression")
}
_SCALARS: Final = {
    f"numpy.{kind}{bits}"
    for kind, sizes in {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (32, 64)}.items()
    for bits in sizes
} | {"numpy.bool", "numpy.bool_", "numpy.str_"}
_BUILT_IN_TYPES: Final = {f"builtins.{name}" for name in ("str", "int", "float", "bool")}


def _objects() -> Iterator[str]:
    for module, names in ALLOWED.items():
        native = module.endswith(("._loss._loss", "._sgd_fast", "._dist_metrics"))
        if module.startswith("sklearn.") and not native:
            for name in names:
                dotted = f"{module}.{name}"
                if name.lstrip("_")[:1].isupper() and dotted not in _UNCHECKABLE:
                    yield dotted


def _losses() -> Iterator[str]:
    for module in ("sklearn._loss._loss", "sklearn.linear_model._sgd_fast"):
        yield from (f"{module}.{name}" for name in ALLOWED[module] if not name.startswith("_"))


OBJECTS: Final = frozenset(_objects()) - {"sklearn.utils._bunch.Bunch"}
TRUSTED: Final[Mapping[str, frozenset[str]]] = {
    "DictNode": frozenset({"builtins.dict", "sklearn.utils._bunch.Bunch"}),
    "ListNode": frozenset({"builtins.list"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "SetNode": frozenset({"builtins.set"}),
    "JsonNode": frozenset({"builtins.str"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "NdArrayNode": frozenset({"numpy.ndarray", *_SCALARS}),
    "DTypeNode": frozenset({"numpy.dtype"}),
    "TypeNode": frozenset(_BUILT_IN_TYPES | _SCALARS),
    "ObjectNode": OBJECTS,
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    "LossNode": frozenset(_losses()),
    "FunctionNode": frozenset(_SCORE_FUNCTIONS),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
}
FOR_SKOPS: Final = sorted(
    {*OBJECTS, *_SCORE_FUNCTIONS, "sklearn.tree._tree.Tree", "sklearn.utils._bunch.Bunch"}
    | {"numpy.dtype"}
)
"""What skops has to be told to trust: all of it was looked at here before."""


def audit(archive: Archive, *, minor_version: str, full_version: str, expanded: int) -> list[str]:
    """Refuse a schema with anything unlisted in it; returns the arrays that it needs.

    Changes the schema in two ways: search trees of neighbours are left out (they are built anew
    from the rows they were built on), and ``_sklearn_version`` of another patch release becomes
    ours. Estimators of another minor version are refused.
    """
    schema = archive.schema
    if schema.get("protocol") not in PROTOCOLS or isinstance(schema["protocol"], bool):
        told = ", ".join(map(str, PROTOCOLS))
        raise refused("skops_protocol", f"Only files of skops' protocols {told} can be imported")
    needed: dict[str, None] = {}
    total = 0
    for node in _nodes(schema):
        if _name(node) in _KD_TREES and node["__loader__"] == "ObjectNode":
            _leave_out(node)
        _check_type(node)
        if node["__loader__"] == "DictNode":
            _check_version(node, minor_version, full_version)
        for name in _arrays_of(node, archive.arrays):
            needed[name] = None
            # An array may be referred to many times, and is built as often.
            total += len(archive.arrays[name])
            if total > expanded:
                raise refused("too_large", f"The arrays have more than {expanded} bytes")
    return list(needed)


def _nodes(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every object with a ``__loader__``, wherever it stands, parents first."""
    waiting: list[Any] = [schema]
    seen = 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "__loader__" in item:
                seen += 1
                if seen > MAX_NODES:
                    raise refused("too_large", f"The model has more than {MAX_NODES} parts")
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _name(node: Mapping[str, Any]) -> str:
    module, name = node.get("__module__"), node.get("__class__")
    return f"{module}.{name}"


def _check_type(node: Mapping[str, Any]) -> None:
    loader, name = node["__loader__"], _name(node)
    if not isinstance(loader, str) or loader not in TRUSTED:
        told = str(loader)[:80]
        raise refused("untrusted_type", f"The file holds {name[:200]}, stored as {told!r}")
    if name not in TRUSTED[loader]:
        raise refused(
            "untrusted_type", f"The file holds {name[:200]}, which no model that is taken may hold"
        )
    if loader == "SliceNode" and not _is_slice(node.get("content")):
        raise refused("broken_node", "The file holds a slice that is none")
    if loader == "RandomGeneratorNode" and _bit_generator(node) != '"PCG64"':
        raise refused("untrusted_type", f"The file holds a {name} other than PCG64")


def _is_slice(content: Any) -> bool:
    return isinstance(content, dict) and all(
        part is None or type(part) is int for part in content.values()
    )


def _bit_generator(node: Mapping[str, Any]) -> Any:
    """The class that skops will call, which it stores as a plain string."""
    try:
        return node["content"]["bit_generator"]["content"]["bit_generator"]["content"]
    except (KeyError, TypeError):
        return None


def _arrays_of(node: Mapping[str, Any], arrays: Mapping[str, bytes]) -> Iterator[str]:
    if "file" not in node:
        return
    name = node["file"]
    if node["__loader__"] != "NdArrayNode" or not isinstance(name, str):
        raise refused("broken_node", "The file refers to an entry that is no array")
    if name not in arrays:
        raise refused("broken_node", f"The file refers to an array {name} that it has not")
    yield name


def _leave_out(node: dict[str, Any]) -> None:
    """Make a node one that stands for None."""
    kept = {"__id__": node["__id__"]} if "__id__" in node else {}
    node.clear()
    node |= {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", **kept}
    node |= {"content": "null", "is_json": True}


def _check_version(node: Mapping[str, Any], minor_version: str, full_version: str) -> None:
    content = node.get("content")
    told = content.get("_sklearn_version") if isinstance(content, dict) else None
    if not isinstance(told, dict):
        return
    try:
        version = json.loads(told["content"])
        same = isinstance(version, str) and version.split(".")[:2] == minor_version.split(".")
    except (KeyError, TypeError, ValueError) as error:
        raise refused("broken_node", "The file holds a version that is none") from error
    if not same:
        raise refused(
            "artifact_version_mismatch",
            f"The model was made with scikit-learn {str(version)[:20]}, this server has "
            f"{minor_version}: train or export it again",
        )
    told["content"] = json.dumps(full_version)
