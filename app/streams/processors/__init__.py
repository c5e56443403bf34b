"""Processors: what is done with each record of a topic, as resources and by processes.

URLs: ``/processors``, ``/processors/{processor}``, ``.../state``, ``.../resets``.
Tables: ``streams_processors``, ``streams_processor_progress``, ``streams_processor_watermarks``,
``streams_processor_windows``. How far each has read is kept by its consumer group.
Events: ``processor.created updated paused resumed reset deleted``.

``service`` is what clients can do. A processor process has a ``runtime``, which takes part in the
groups of all that is to be ``reading``, and a ``lane`` for each partition that it is given; the
lane hands records to a handler of the processor's kind (``handling``) and keeps what follows in one
transaction. The kinds are ``predict``, ``aggregate`` (over ``windows``, which is pure), ``learn``,
``archive`` and ``webhook`` (by ``hook_guard`` and ``hook_signature``, which are pure); ``kinds``
lists them.
"""
