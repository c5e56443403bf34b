"""What each release has left on disks: every later one must open it."""
