"""A small file system in a mount namespace of its own: the machine sees nothing of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_PAGE = 4096
# A page is in use from the start: a size of 0 means no limit.
_MOUNT = 'mount -t tmpfs -o mode=700 none "$0"; head -c 4096 /dev/zero >"$0/filler"; echo; exec cat'


class SmallDisk:
    """A tmpfs at `where`, for whoever is started by `enter`."""

    def __init__(self, where: Path) -> None:
        self.where = where
        where.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> SmallDisk:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", _MOUNT, str(self.where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n", "it cannot be mounted"
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._holder.communicate()

    def enter(self, *command: str) -> list[str]:
        """The command line by which it sees the small file system."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *command]

    def run(self, *command: str) -> None:
        subprocess.run(self.enter(*command), check=True, capture_output=True)

    def seen(self, path: Path) -> Path:
        """A path in it, as it is seen from here."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def leave(self, *, pages: int | None = None, files: int | None = None) -> None:
        """Room for so much more; None: for as much as anybody wants."""
        found = os.statvfs(self.seen(self.where))
        size = 1 << 24 if pages is None else (found.f_blocks - found.f_bfree + pages) * _PAGE
        number = 1 << 16 if files is None else found.f_files - found.f_ffree + files
        self.run("mount", "-o", f"remount,size={size},nr_inodes={number}", str(self.where))
