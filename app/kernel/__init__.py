"""The technical kernel that every service stands on. It knows no domain word.

Read ``errors`` and ``sql`` first, then ``http``: they are what a service touches most.
"""
