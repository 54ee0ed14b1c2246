"""The directory that a session makes for itself on the node: made, marked, locked, removed.

Its locks keep others from taking it for that of a session which was killed (leftovers.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import private
from . import leftovers

if TYPE_CHECKING:
    from pathlib import Path

    from .session_paths import SessionPaths


class OwnedDirectory:
    """One session's directory in `runtime_dir`, which nobody else makes or removes.

    Every method but `exists` and `is_complete` needs the lock of `runtime_dir`.
    """

    def __init__(self, runtime_dir: Path, paths: SessionPaths) -> None:
        self._runtime_dir = runtime_dir
        self._paths = paths
        self._inode: tuple[int, int] | None = None  # device and number; None: not made yet
        self._locks: list[int] = []  # descriptors

    def exists(self) -> bool:
        """Return whether the directory is there.

        Raises JlabError if it is another user's, or another one than this session has made.
        """
        path = self._paths.directory
        try:
            found = path.lstat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise JlabError(f"{path} cannot be looked at: {error.strerror}") from error
        private.require_only_ours(path, found, "")
        if (found.st_dev, found.st_ino) != self._inode:
            raise JlabError(f"{path} is not the directory that this session has made")
        return True

    def is_complete(self) -> bool:
        """Return whether the directory has all that `make` puts there; raises as `exists`."""
        return (
            self.exists()
            and leftovers.owner(self._paths.directory) is not None
            and self._paths.alive.exists()
            and self._paths.jupyter_runtime.exists()
        )

    def make(self) -> None:
        """Make what is missing of the directory; raises OSError, and as `exists`."""
        path = self._paths.directory
        if not self.exists():
            leftovers.make(path)
            found = path.lstat()
            self._inode = found.st_dev, found.st_ino
            self.release()
            # The runtime directory is shared. Both keep systemd-tmpfiles from what is in there.
            self._locks += [leftovers.lock(path), leftovers.lock(self._runtime_dir, shared=True)]
        if leftovers.owner(path) is None:
            leftovers.mark(path)
        if not self._paths.alive.exists():
            self._lock_alive_file()
        self._paths.jupyter_runtime.mkdir(mode=0o700, exist_ok=True)

    def _lock_alive_file(self) -> None:
        """Show versions before 0.2 that this is not the directory of a session that was killed."""
        alive = os.open(self._paths.alive, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._locks.append(alive)
        with contextlib.suppress(OSError):
            fcntl.flock(alive, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the directory, if this session has made it; raises as `exists`."""
        if self._inode and self.exists():
            leftovers.clear(self._paths.directory)

    def release(self) -> None:
        """Let go of the locks: from now on the directory counts as that of a killed session."""
        while self._locks:
            os.close(self._locks.pop())
