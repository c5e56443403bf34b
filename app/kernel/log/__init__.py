"""Record logs: ordered, immutable, partitioned records that are read by position.

``seam`` says what a log promises, ``sql_log`` keeps it in a database of ours. A reader remembers
its own position, best in the transaction of what it does with the records: then nothing is lost
or done twice, whoever is killed.
"""
