"""Child processes under limits, forked from a warm server."""
