"""The private directory for the sockets that an ssh of `open` makes: nobody else can enter it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..cluster import client
from ..errors import JlabError
from ..ssh_config import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..paths import Paths

CONTROL_PREFIX = "c"  # of the socket by which an ssh obeys
_DIRECTORY_PREFIX = "way-"
# ssh adds a point and 16 letters while it makes its own socket; macOS and BSD take 103 bytes.
_MAX_PATH = 103 - len("/c1234567.") - 16  # bytes
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/@+-]*")  # what ssh takes as it is in all places


@contextlib.contextmanager
def private_directory(paths: Paths, port: int) -> Iterator[str]:
    """Make the directory for ssh's sockets, which goes with the context; raises JlabError.

    It is ~/.ssh/jlab/way-PORT, or one in /tmp if that cannot be used. Whoever has the port may have
    the directory: what is in it was left by a process that was killed.
    """
    made = f"{paths.directory}/{_DIRECTORY_PREFIX}{port}"
    is_usable = len(os.fsencode(made)) <= _MAX_PATH and bool(_PLAIN_PATH.fullmatch(made))
    try:
        keys.make_directory(paths)
    except JlabError:  # it is another user's, say, who could move ours away
        is_usable = False
    try:
        if is_usable and _takes_sockets(made):
            _clear(made)
        else:
            made = tempfile.mkdtemp(prefix="jlab-")
    except OSError as error:
        raise JlabError(f"cannot make a directory for sockets: {error.strerror}") from error
    try:
        yield made
    finally:
        _clear(made)
        with contextlib.suppress(OSError):
            os.rmdir(made)  # noqa: PTH106


def _takes_sockets(directory: str) -> bool:
    """Return whether it could be made, is ours alone, and is on a file system with sockets."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
        if not is_private(directory):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/probe")  # noqa: PTH108
        probe.bind(f"{directory}/probe")
        return True
    return False


def is_private(directory: str) -> bool:
    """Return whether it is there, and nobody else can enter it."""
    with contextlib.suppress(OSError):
        found = os.lstat(directory)
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        return is_ours and not found.st_mode & 0o077
    return False


def _clear(directory: str) -> None:
    """Remove the sockets in it, and end the ssh that has made them."""
    try:
        entries = list(Path(directory).iterdir())
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith(CONTROL_PREFIX):
            client.ssh_succeeds(["ssh", "-F", os.devnull, "-S", str(entry), "-Oexit", "--", "x"])
        with contextlib.suppress(OSError):  # that ssh removes them as well, a moment later
            if stat.S_ISSOCK(entry.lstat().st_mode):
                entry.unlink()
