"""Streams: topics are ordered, immutable, partitioned logs of records; groups share reading them.

URLs below ``/api/v1``: ``/topics``, ``/topics/{topic}``, ``.../records``, ``.../records/stream``,
``.../partitions/{p}/records``; ``/consumer-groups``, ``/consumer-groups/{group}``, ``.../lag``,
``.../offsets``, ``.../members``, ``.../members/{m}``, with ``/lease`` and ``/records``.
Tables: ``streams_topics``, ``streams_groups``, ``streams_members``, ``streams_assignments``,
``streams_feeds``. The records themselves are in the record log of the kernel, under the topic's id.
Events: ``topic.created updated deleted``, ``consumer-group.created sought deleted``.

The nouns: service.py has the topics themselves, records.py what is produced and read, encoding.py
and cloud_events.py how it goes over the wire, tail.py the stream of what comes. groups.py keeps who
reads which partition and how far it has come: one implementation, in SQL, for the consumer groups
of clients (consumer_groups.py) and for all that we run ourselves; assignment.py spreads partitions.
feed.py writes what happens in the system to each project's topic ``modelyard.events``.
"""
