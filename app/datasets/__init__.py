"""Datasets: named tables, each version of them immutable and addressed by its digest.

URLs: ``/datasets``, ``/datasets/{dataset}``, ``/datasets/{dataset}/versions``,
``.../versions/{n}``, ``.../{n}/rows``, ``.../{n}/content``, ``.../{n}/rejects``; for other services
``/datasets/{dataset}/holds`` and ``/datasets/{dataset}/archives`` below ``/api/v1``.
Tables: ``datasets_datasets``, ``datasets_versions``, ``datasets_holds``.
Events: ``dataset.created``, ``dataset.updated``, ``dataset.deleted``, ``dataset.version.queued``,
``dataset.version.ready``, ``dataset.version.failed``, ``dataset.version.deleted``.
In the store: ``<project>/datasets/<id>.parquet`` and ``.rejects``; ``<project>/uploads/<id>`` while
an upload waits.

A body is streamed to a work folder, counted and digested (receiving, uploads); the ingest process
turns it into checked Parquet with a profile (process_client asks, process answers, ingest does);
one transaction makes the version (conversion), or a job does so later (backlog, workers). archives
makes one of the records of a topic, once however often they are sent. versions and content read,
removal deletes what nobody holds or refers to, leftovers sweeps what killed processes left. The
process that serves the API never opens a table itself.
"""
