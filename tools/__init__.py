"""What developers run beside the app; not part of the wheel."""
