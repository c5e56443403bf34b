"""Records: how they are produced, read by position and followed, and how they look on the wire."""
