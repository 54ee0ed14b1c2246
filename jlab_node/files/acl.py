"""Access control lists of files, as Linux keeps them: whom they name beside owner and group."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ATTRIBUTE = "system.posix_acl_access"
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # version; tag, permissions, id
_NAMED = (0x02, 0x08)  # tags of a user and of a group that the list names
_WRITE = 2


def names_writers(path: Path) -> bool:
    """Return whether the list of `path` names somebody who may write it, if its mask lets him."""
    try:
        raw = os.getxattr(path, _ATTRIBUTE)
    except (OSError, AttributeError):  # it has none; its file system knows none; no Linux
        return False
    entries = raw[_HEADER.size :]
    whole = entries[: len(entries) // _ENTRY.size * _ENTRY.size]
    return any(tag in _NAMED and may & _WRITE for tag, may, _ in _ENTRY.iter_unpack(whole))
