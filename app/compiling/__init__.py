"""From a fitted pipeline to its compiled form, verified against the pipeline itself."""
