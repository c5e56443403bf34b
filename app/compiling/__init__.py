"""From a fitted pipeline to its compiled form, verified against the pipeline itself."""

NOT_YET = {
    "engine": "sklearn",
    "reason": "the compiled form was not finished",
    "verified": None,
}
"""What serves a model until its compiled form is there."""
