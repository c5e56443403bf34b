"""Compiling transformers that expand columns: splines, and sketches of polynomials."""

from typing import Any

import numpy as np
from sklearn.kernel_approximation import PolynomialCountSketch
from sklearn.preprocessing import SplineTransformer

from app.compiling.encoders import floats
from app.compiling.flow import Built, Flow, NotCompilable, Plan, matrix_for, transforms
from app.scoring.curves import Sketch, Splines


@transforms(SplineTransformer)
def build_splines(transformer: SplineTransformer, flow: Flow, plan: Plan) -> Built:
    """B-splines of each column."""
    steps, flow = matrix_for(transformer, flow, plan)
    degree, outside = int(transformer.degree), transformer.extrapolation
    if outside == "error" or degree < 1:
        raise NotCompilable(
            f"splines of degree {degree} that end in {outside!r} have no compiled form"
        )
    fitted = transformer.bsplines_
    splines = fitted[0].c.shape[1]
    width = splines - (not transformer.include_bias)
    ends = outside in {"constant", "linear"}
    edges = np.zeros((len(fitted), 2))
    values = np.zeros((len(fitted), 2, width))
    slopes = np.zeros((len(fitted), 2, width))
    if ends:
        for number, parts in enumerate(_ends(fitted, degree, linear=outside == "linear")):
            edges[number] = parts[0]
            values[number], slopes[number] = parts[1][:, :width], parts[2][:, :width]
    knots = floats(np.stack([spline.t for spline in fitted]))
    kind = "edges" if ends else outside
    step = Splines(knots, degree, kind, width, edges, values, slopes)
    return [*steps, step], Flow.matrix(width * len(fitted))


def _ends(fitted: Any, degree: int, *, linear: bool) -> list[tuple[Any, Any, Any]]:
    """Where the splines of each column end, and with which values and slopes they go on."""
    ends = []
    for spline in fitted:
        edges = spline.t[degree], spline.t[-degree - 1]
        values = np.stack([spline(edge) for edge in edges])
        slopes = np.stack([spline(edge, nu=1) for edge in edges])
        if linear and degree <= 1:
            # scikit-learn counts one up here, and keeps it for the columns that follow.
            degree += 1
        kept = np.zeros_like(values, dtype=bool)
        kept[0, :degree] = kept[1, -degree:] = True
        slopes = np.where(kept & linear, slopes, 0.0)
        ends.append((np.array(edges), np.where(kept, values, 0.0), slopes))
    return ends


@transforms(PolynomialCountSketch)
def build_sketch(sketch: PolynomialCountSketch, flow: Flow, plan: Plan) -> Built:
    """A sketch of the polynomial kernel."""
    steps, flow = matrix_for(sketch, flow, plan)
    step = Sketch(
        np.array(sketch.indexHash_, dtype=np.int64),
        floats(sketch.bitHash_),
        float(np.sqrt(sketch.gamma)),
        float(np.sqrt(sketch.coef0)),
        int(sketch.n_components),
    )
    plan.widen(step.places.shape[0] * step.outputs)
    return [*steps, step], Flow.matrix(step.outputs)
