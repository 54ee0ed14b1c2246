"""A directory whose default ACL lets another user read and write whatever is made in it."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

if TYPE_CHECKING:
    from pathlib import Path

_NO_ID = 0xFFFFFFFF
# Tag (owner, user, group, mask, others), permissions, id: as setfacl -m u:nobody:rwx writes it.
_ENTRIES = [
    (0x01, 7, _NO_ID),
    (0x02, 7, NOBODY),
    (0x04, 5, _NO_ID),
    (0x10, 7, _NO_ID),
    (0x20, 5, _NO_ID),
]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in _ENTRIES)


def share(directory: Path, *kinds: str) -> None:
    """Set its ACL of these kinds: "default" for what is made in it, "access" for itself."""
    try:
        for kind in kinds:
            os.setxattr(directory, f"system.posix_acl_{kind}", ACL)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip(f"the file system of {directory} knows no ACLs")
