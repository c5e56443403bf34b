"""Lambda views: answers over all records of a topic, from a batch view and a speed view.

URLs: ``/lambda-views`` and below. Tables: ``streams_views``, ``streams_view_batches``,
``streams_view_speed``, ``streams_view_rows``. Jobs: ``view_batch``.

A batch is the fold of all records up to an offset of each partition, made by a worker; its rows lie
in the artifact store. The speed view is the fold of the records after them, one state for each
partition, kept in tables together with the offset that it has come to. An answer merges both.

``sketches``, ``measures`` and ``aggregation`` are pure: what is folded and how parts merge.
``speed`` folds records in, ``batches`` makes batches and swaps them in, ``answers`` merges.
"""
