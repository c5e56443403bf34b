"""Traces: what one request causes, told as one tree, whichever processes take part in it.

``contexts`` is the two headers by which a trace goes from one process to the next. ``tracer`` is
what the rest of the code uses: it costs next to nothing where nobody looks. ``telemetry`` is
OpenTelemetry, an extra, and the only module that imports it.
"""
