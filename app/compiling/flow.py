"""What flows between the parts of a pipeline while it is compiled, and who compiles which part.

Compiling walks through a fitted pipeline. A *builder* turns one fitted estimator into steps, given
the ``Flow`` that reaches it; for a transformer it also tells the flow that leaves it. Builders are
registered for exact classes: a subclass may do something else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sklearn.utils import get_tags

from app.scoring.encoder import Levels, LevelsOfMatrix, Numbers, PickColumns, PickLevels
from app.scoring.frame import Recipe
from app.scoring.numbers import RefuseMissing
from app.scoring.step import Chain, Step


class NotCompilable(Exception):
    """The model cannot be compiled; the message tells a user why, in one sentence."""


@dataclass(frozen=True)
class Origin:
    """Where a column of a matrix comes from: ``(x - shift) / scale`` of one prepared column."""

    column: int
    shift: float = 0.0
    scale: float = 1.0

    def then(self, shift: float, scale: float) -> "Origin | None":
        """The origin after another ``(x - shift) / scale``."""
        product = self.scale * scale
        return Origin(self.column, self.shift + shift * self.scale, product) if product else None

    def raw(self, number: float) -> float:
        """The prepared value that becomes about this number."""
        return number * self.scale + self.shift


@dataclass(frozen=True)
class Flow:
    """What reaches a part of the pipeline.

    ``kind`` is frame (prepared columns, nothing read yet), matrix or levels (categories by column).
    ``columns`` are the prepared columns of a frame, None for one that the recipe leaves out;
    ``origins`` tell of each column of a matrix where it comes from, if it is one prepared column,
    shifted and scaled; ``gaps`` whether something in a matrix may be missing.
    """

    kind: str
    width: int
    columns: tuple[int | None, ...] = ()
    origins: tuple[Origin | None, ...] = ()
    gaps: bool = True

    @classmethod
    def matrix(
        cls, width: int, origins: Sequence[Origin | None] | None = None, *, gaps: bool = False
    ) -> "Flow":
        """A matrix; without ``origins`` nothing is known of where its columns come from."""
        return cls("matrix", width, origins=tuple(origins or [None] * width), gaps=gaps)

    def prepared(self) -> list[int]:
        """The prepared columns of a frame; raises ``NotCompilable`` if one is left out."""
        columns = [column for column in self.columns if column is not None]
        if len(columns) < self.width:
            raise NotCompilable("the pipeline uses a column that the recipe leaves out")
        return columns


@dataclass(frozen=True)
class Split:
    """A threshold of a tree, and where the column that it splits comes from."""

    origin: Origin
    threshold: float


@dataclass
class Plan:
    """What is known and gathered while one pipeline is compiled.

    ``splits``, ``levels`` and ``terms`` are the thresholds of trees, and the categories and terms
    that the encoders of each prepared column know: rows that have them are compared.
    """

    recipe: Recipe
    node_limit: int
    nodes: int = 0
    widest: int = 1
    splits: list[Split] = field(default_factory=list)
    levels: dict[int, list[Any]] = field(default_factory=dict)
    terms: dict[int, list[str]] = field(default_factory=dict)

    def start(self, names: Sequence[str]) -> Flow:
        """The flow that reaches a pipeline that was fitted on columns of these names."""
        places = {name: place for place, name in enumerate(self.recipe.names)}
        return Flow("frame", len(names), columns=tuple(places.get(name) for name in names))

    def widen(self, width: int) -> None:
        """Note that a matrix of this many cells a row is made on the way."""
        self.widest = max(self.widest, width)

    def know(self, flow: Flow, levels: Sequence[Sequence[Any]]) -> None:
        """Note the categories of the columns of a frame."""
        for column, known in zip(flow.columns, levels, strict=False):
            if column is not None:
                self.levels.setdefault(column, []).extend(known)

    def count_nodes(self, nodes: int) -> None:
        """Note that trees have this many nodes more; too many are refused."""
        self.nodes += nodes
        if self.nodes > self.node_limit:
            raise NotCompilable(
                f"the trees have more than {self.node_limit} nodes, the limit for compiling"
            )


Built = tuple[list[Step], Flow]
TransformerBuilder = Callable[[Any, Flow, Plan], Built]
ModelBuilder = Callable[[Any, Flow, Plan], list[Step]]

TRANSFORMERS: Final[dict[type, TransformerBuilder]] = {}
MODELS: Final[dict[type, ModelBuilder]] = {}


def transforms(*kinds: type) -> Callable[[TransformerBuilder], TransformerBuilder]:
    """Register a builder for transformers of exactly these classes."""

    def register(builder: TransformerBuilder) -> TransformerBuilder:
        TRANSFORMERS.update(dict.fromkeys(kinds, builder))
        return builder

    return register


def predicts(*kinds: type) -> Callable[[ModelBuilder], ModelBuilder]:
    """Register a builder for final estimators of exactly these classes."""

    def register(builder: ModelBuilder) -> ModelBuilder:
        MODELS.update(dict.fromkeys(kinds, builder))
        return builder

    return register


DEPENDS_ON_OTHERS: Final = frozenset({"NMF"})
"""What fits every lot of rows anew, until the whole lot is good enough."""


def no_form(estimator: Any) -> NotCompilable:
    """The refusal of an estimator that nothing here can build."""
    name = type(estimator).__name__
    if name in DEPENDS_ON_OTHERS:
        return NotCompilable(
            f"{name} has no compiled form: what it says of a row depends on the rows beside it"
        )
    return NotCompilable(f"{name} has no compiled form")


def build_transformer(transformer: Any, flow: Flow, plan: Plan) -> Built:
    """The steps of a fitted transformer, and the flow that leaves it."""
    builder = TRANSFORMERS.get(type(transformer))
    if builder is None:
        raise no_form(transformer)
    steps, after = builder(transformer, flow, plan)
    plan.widen(after.width)
    return steps, after


def build_model(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The steps of a fitted final estimator, up to the result that its task asks for."""
    builder = MODELS.get(type(estimator))
    if builder is None:
        raise no_form(estimator)
    return builder(estimator, flow, plan)


def chained(steps: Sequence[Step]) -> Step:
    """The steps as one."""
    return steps[0] if len(steps) == 1 else Chain(list(steps))


def matrix_for(estimator: Any, flow: Flow, plan: Plan) -> Built:
    """The flow as a matrix, without gaps unless the estimator copes with them."""
    steps, after = as_matrix(flow, plan)
    if after.gaps and not get_tags(estimator).input_tags.allow_nan:
        return [*steps, RefuseMissing()], replace(after, gaps=False)
    return steps, after


def as_matrix(flow: Flow, plan: Plan) -> Built:
    """The flow as a matrix of numbers."""
    if flow.kind == "matrix":
        return [], flow
    if flow.kind == "levels":
        raise NotCompilable("categories reach a part of the pipeline that needs numbers")
    columns = flow.prepared()
    for column in columns:
        prepared = plan.recipe.columns[column]
        if prepared.kind not in {"number", "date_part"}:
            raise NotCompilable(f"the strings of {prepared.name!r} reach a part that needs numbers")
    plan.widen(flow.width)
    origins = [Origin(column) for column in columns]
    return [Numbers(columns)], Flow.matrix(flow.width, origins, gaps=True)


def as_levels(flow: Flow) -> Built:
    """The flow as lists of categories."""
    if flow.kind == "levels":
        return [], flow
    step: Step = LevelsOfMatrix() if flow.kind == "matrix" else Levels(flow.prepared())
    return [step], Flow("levels", flow.width)


def picked(flow: Flow, places: Sequence[int]) -> Built:
    """Some columns of the flow, by position."""
    chosen = [int(place) for place in places]
    if chosen == list(range(flow.width)):
        return [], flow
    if flow.kind == "frame":
        columns = tuple(flow.columns[place] for place in chosen)
        return [], replace(flow, columns=columns, width=len(columns))
    if flow.kind == "levels":
        return [PickLevels(chosen)], replace(flow, width=len(chosen))
    origins = [flow.origins[place] for place in chosen]
    return [PickColumns(chosen)], Flow.matrix(len(chosen), origins, gaps=flow.gaps)


def inner(estimator: Any, name: str) -> Any:
    """A private attribute of a fitted estimator, for what scikit-learn shows nowhere else.

    Whether it still means the same is not taken on trust: every compiled model is verified.
    """
    try:
        return getattr(estimator, name)
    except AttributeError as error:
        kind = type(estimator).__name__
        raise NotCompilable(f"this version of {kind} keeps its state in another way") from error
