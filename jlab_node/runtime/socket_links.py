"""The links in the user's directory that `ssh -L` names: to the newest socket of each name.

    /tmp/jlab-alice/lab.sock  ->  s-x7k2m9/lab.sock     the newest session on this node
    /tmp/jlab-alice/gpu.sock  ->  s-x7k2m9/gpu.sock     the newest one of that name

While there is only one session, nobody needs to be told apart: lab.sock leads past its relay, to
s-x7k2m9/direct. What is exposed and has a socket that only the user can replace is reached past the
relay too: dask.sock leads to s-x7k2m9/dask.straight, and that to the socket.

All of this needs the lock of the user's directory. A file of such a name that is no link of
jlab-node's is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from ..errors import JlabError
from ..files import private
from ..identifiers import NEWEST
from . import leftovers
from .session_lookup import DIRECT

_NEWEST = f"{NEWEST}.sock"
_DIRECT_SUFFIX = ".straight"
_TARGET = re.compile(r"(s-[a-z0-9]{6}|[a-z0-9_]{8})/(.+)")  # the second: an older version's


class DirectLink:
    """A link in a session's directory to the socket of a program that it exposes as `name`."""

    def __init__(self, directory: Path, name: str, target: str) -> None:
        self._path = directory / f"{name}{_DIRECT_SUFFIX}"
        self._target = target

    def exists(self) -> bool:
        """Whether it leads there."""
        try:
            return os.readlink(self._path) == self._target  # noqa: PTH115
        except OSError:
            return False

    async def start(self) -> None:
        """Lead there."""
        self.end()
        self._path.symlink_to(self._target)

    def end(self) -> None:
        """Lead nowhere."""
        self._path.unlink(missing_ok=True)


def claim(runtime_dir: Path, directory: Path) -> None:
    """Let the links lead to the newest sockets, those of `directory` for the names that it has.

    Raises JlabError, OSError.
    """
    repair(runtime_dir)
    for path in directory.glob("*.sock"):
        link = runtime_dir / path.name
        if _made_at(link) <= _made_at(path):
            _link(link, _direct_target(path))


def repair(runtime_dir: Path) -> None:
    """Links that lead nowhere: to the newest socket of their name, or away with them.

    Those that lead somewhere cost one look: fifty sessions may begin or end at once.
    """
    for link in runtime_dir.glob("*.sock"):
        if not _is_ours(link) or (link.exists() and link.name != _NEWEST):
            continue
        found = [path / link.name for path in leftovers.directories(runtime_dir)]
        newest = max(filter(Path.exists, found), key=_made_at, default=None)
        if newest:
            _link(link, _direct_target(newest))
        elif not link.exists():
            link.unlink()


def _direct_target(path: Path) -> Path:
    """Past the relay of the session whose socket this is, if that is the only one here."""
    if path.name != _NEWEST:
        straight = path.with_suffix(_DIRECT_SUFFIX)
        return straight if straight.is_symlink() else path
    runtime_dir = path.parent.parent
    others = [each for each in leftovers.directories(runtime_dir) if each != path.parent]
    alone = not any((each / _NEWEST).exists() for each in others)
    return path.with_name(DIRECT) if alone else path


def _is_ours(link: Path) -> bool:
    with contextlib.suppress(OSError):
        found = _TARGET.fullmatch(os.readlink(link))  # noqa: PTH115
        straight = DIRECT if link.name == _NEWEST else f"{link.stem}{_DIRECT_SUFFIX}"
        return found is not None and found[2] in (link.name, straight)
    return False


def _link(link: Path, path: Path) -> None:
    """In one step; raises JlabError where something else is in the way."""
    target = path.relative_to(link.parent)
    if _is_ours(link):
        if link.readlink() == target:
            return
    elif os.path.lexists(link):
        raise JlabError(f"{link} is not jlab-node's", remedy="move it to somewhere else")
    # In the session's directory, with which it is swept if we are killed now.
    temporary = path.with_name(private.TEMP_PREFIX + secrets.token_hex(4))
    temporary.symlink_to(target)
    try:
        os.replace(temporary, link)  # noqa: PTH105
    except OSError:
        temporary.unlink()
        raise


def _made_at(path: Path) -> int:
    with contextlib.suppress(OSError):
        if (
            path.is_symlink() and path.readlink().suffix == _DIRECT_SUFFIX
        ):  # the program's own is older
            path = path.parent / path.readlink().with_suffix(".sock")
        return path.stat().st_mtime_ns
    return 0  # its session has just ended
