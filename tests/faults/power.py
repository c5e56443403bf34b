"""A disk that loses, when the power goes, all that was not fsynced."""

import os
import stat
from contextlib import closing


class Disk:
    """Keeps of each file what its last fsync saw, of each folder the names that its last one saw.

    What lies in ``root`` when the watch begins has reached the disk. Files are known by their
    inodes, so each is held open: else another could get the same.
    """

    def __init__(self, monkeypatch, root):
        self._root = root
        self._files, self._folders, self._held = {}, {}, []
        for folder, _, names in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
                if not os.path.islink(path):  # noqa: PTH114
                    self._see(os.open(path, os.O_RDONLY))
        real = os.fsync

        def fsync(handle):
            handle = handle if isinstance(handle, int) else handle.fileno()
            real(handle)
            self._see(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY))

        monkeypatch.setattr(os, "fsync", fsync)

    def _see(self, handle):
        self._held.append(handle)
        state = os.fstat(handle)
        if stat.S_ISDIR(state.st_mode):
            with os.scandir(handle) as entries:
                self._folders[state.st_ino] = {
                    entry.name: (entry.inode(), entry.is_dir()) for entry in entries
                }
        elif stat.S_ISREG(state.st_mode):
            self._files[state.st_ino] = os.pread(handle, state.st_size, 0)

    def left(self):
        """What is there after a power cut now: bytes by path below the root; None: not to know."""
        return dict(self._left("", self._root.stat().st_ino))

    def _left(self, path, inode):
        for name, (found, is_folder) in self._folders.get(inode, {}).items():
            if is_folder:
                yield from self._left(f"{path}{name}/", found)
            else:
                yield f"{path}{name}", self._files.get(found)

    def close(self):
        """Let go of all files."""
        for handle in self._held:
            os.close(handle)


def watched(monkeypatch, root):
    """A disk to watch within a block."""
    return closing(Disk(monkeypatch, root))
