"""Streams: topics are ordered, immutable, partitioned logs of records, and what is made of them.

URLs below ``/api/v1``: ``/topics``, ``/topics/{topic}``, ``.../records``, ``.../records/stream``,
``.../partitions/{p}/records``; ``/consumer-groups``, ``/consumer-groups/{group}``, ``.../lag``,
``.../offsets``, ``.../members``, ``.../members/{m}``, with ``/lease`` and ``/records``;
``/processors`` and ``/lambda-views`` with what lies below them.
Tables: ``streams_*``. The records themselves are in the record log of the kernel, under the topic's
id. Events: ``topic.*``, ``consumer-group.*``, ``processor.*``, ``lambda-view.*``.

The nouns: service.py has the topics themselves, ``records`` how records are produced, read and
followed. groups.py keeps who reads which partition and how far it has come: one implementation, in
SQL, for the ``consumer_groups`` of clients and for all that we run ourselves, ``processors`` and
``views``; assignment.py spreads partitions. ``learning`` is what both of these learn from records.
feed.py writes what happens in the system to each project's topic ``modelyard.events``.
"""
