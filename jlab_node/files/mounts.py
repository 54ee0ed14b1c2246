"""File systems that another user has mounted: what they say of files, of owners too, is made up."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_MOUNTS = "/proc/self/mountinfo"


def foreign_mount(path: Path, *, table: str | None = None) -> str:
    """Return where on the way to `path` another user than root has mounted a file system, or "".

    By FUSE anybody can do that to a directory of their own. `table`: the text of
    /proc/self/mountinfo; None: read it, where there is one.
    """
    if table is None:
        table = ""
        with contextlib.suppress(OSError):
            table = Path(_MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")
    wanted = os.path.realpath(path.parent) + f"/{path.name}/"
    for line in table.splitlines():
        fields, _, kind = line.partition(" - ")
        user = re.search(r"(?:^|,)user_id=([0-9]+)", kind.rpartition(" ")[2])
        where = _unescaped(fields.split(" ")[4])
        is_on_the_way = wanted.startswith(where.rstrip("/") + "/")
        if user and int(user[1]) not in (0, os.geteuid()) and is_on_the_way:
            return where
    return ""


def _unescaped(text: str) -> str:
    r"""As the kernel writes blanks and the like: \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
