"""The artifact store: immutable files by key and digest, in a folder or a bucket."""
