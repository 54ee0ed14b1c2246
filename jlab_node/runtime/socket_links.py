"""The links in the runtime directory that `ssh -L` names: to the newest socket of each name.

    /tmp/jlab-alice/lab.sock  ->  s-x7k2m9/lab.sock     the newest session on this node
    /tmp/jlab-alice/gpu.sock  ->  s-x7k2m9/gpu.sock     the newest one of that name

While there is only one session, nobody needs to be told apart: lab.sock leads past its relay, to
s-x7k2m9/direct. What is exposed and has a socket that only the user can replace is reached past the
relay too: dask.sock leads to s-x7k2m9/dask.straight, and that to the socket.

All of this needs the lock of the runtime directory. A file of such a name that is no link of
jlab-node's is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import writing
from ..identifiers import NEWEST
from . import leftovers
from .session_lookup import DIRECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .session_paths import SessionPaths

_NEWEST = f"{NEWEST}.sock"
_DIRECT_SUFFIX = ".straight"
_TARGET = re.compile(r"(s-[a-z0-9]{6}|[a-z0-9_]{8})/(.+)")  # the second: an older version's


class DirectLink:
    """A link in a session's directory to the socket of a program that it exposes as `name`."""

    def __init__(self, directory: Path, name: str, target: str) -> None:
        self._path = directory / f"{name}{_DIRECT_SUFFIX}"
        self._target = target

    def exists(self) -> bool:
        """Return whether the link leads to that socket."""
        try:
            return os.readlink(self._path) == self._target  # noqa: PTH115
        except OSError:
            return False

    async def start(self) -> None:
        """Make the link; raises OSError."""
        self.end()
        self._path.symlink_to(self._target)

    def end(self) -> None:
        """Remove the link; raises OSError."""
        self._path.unlink(missing_ok=True)


class SessionLinks:
    """The links that one session needs: NAME.sock in its directory, and those that it claimed."""

    def __init__(self, runtime_dir: Path, paths: SessionPaths, name: str) -> None:
        self.is_named = False  # whether NAME.sock leads to JupyterLab
        self._runtime_dir = runtime_dir
        self._paths = paths
        self._name = name
        self._claimed: set[str] = set()  # the names of links that led here

    def restore(self) -> None:
        """Make NAME.sock if it is missing; raises OSError."""
        if self.is_named and not self._has_name():
            self._paths.socket(self._name).symlink_to(self._paths.direct.name)

    def note_claimed(self, sockets: Iterable[Path]) -> None:
        """Remember that links to the session's `sockets` lead here now."""
        self._claimed = self._names(sockets)

    def are_complete(self, sockets: Iterable[Path]) -> bool:
        """Return whether no link to one of the session's `sockets` has been removed."""
        return (not self.is_named or self._has_name()) and all(
            os.path.lexists(self._runtime_dir / name)
            for name in self._claimed & self._names(sockets)
        )

    def _has_name(self) -> bool:
        return self._name == NEWEST or os.path.lexists(self._paths.socket(self._name))

    def _names(self, sockets: Iterable[Path]) -> set[str]:
        """Return the names of the links that may lead to the session: of NAME.sock as well."""
        named = [self._paths.socket(self._name)] if self.is_named else []
        return {path.name for path in [*sockets, *named] if path.suffix == ".sock"}


def claim(runtime_dir: Path, directory: Path) -> None:
    """Let the links lead to the newest sockets: those of `directory` for the names that it has.

    Raises JlabError, OSError.
    """
    repair(runtime_dir)
    for path in directory.glob("*.sock"):
        link = runtime_dir / path.name
        if _made_at(link) <= _made_at(path):
            _link(link, _direct_target(path))


def repair(runtime_dir: Path) -> None:
    """Let links that lead nowhere lead to the newest socket of their name, or remove them.

    Those that lead somewhere cost one look: fifty sessions may begin or end at once. Raises
    JlabError, OSError.
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
    """Return what is behind the relay of the session's socket `path`, if it may be passed by.

    It may be if nobody needs to be told apart (see above); else return `path`.
    """
    if path.name != _NEWEST:
        direct = path.with_suffix(_DIRECT_SUFFIX)
        return direct if direct.is_symlink() else path
    runtime_dir = path.parent.parent
    others = [each for each in leftovers.directories(runtime_dir) if each != path.parent]
    is_alone = not any((each / _NEWEST).exists() for each in others)
    return path.with_name(DIRECT) if is_alone else path


def _is_ours(link: Path) -> bool:
    """Return whether `link` is one that jlab-node has made."""
    with contextlib.suppress(OSError):
        found = _TARGET.fullmatch(os.readlink(link))  # noqa: PTH115
        direct = DIRECT if link.name == _NEWEST else f"{link.stem}{_DIRECT_SUFFIX}"
        return found is not None and found[2] in (link.name, direct)
    return False


def _link(link: Path, path: Path) -> None:
    """Let `link` lead to `path`, in one step.

    Raises JlabError where something else is in the way, and OSError.
    """
    target = path.relative_to(link.parent)
    if _is_ours(link):
        if link.readlink() == target:
            return
    elif os.path.lexists(link):
        raise JlabError(f"{link} is not jlab-node's", remedy="move it to somewhere else")
    # It lies in the session's directory, with which it is removed if we are killed now.
    temporary = path.with_name(writing.TEMP_PREFIX + secrets.token_hex(4))
    temporary.symlink_to(target)
    try:
        os.replace(temporary, link)  # noqa: PTH105
    except OSError:
        temporary.unlink()
        raise


def _made_at(path: Path) -> int:
    """Return when a session made its socket `path`, in ns; 0 if the session has just ended."""
    with contextlib.suppress(OSError):
        # The program's own socket, to which a direct link leads, is older.
        if path.is_symlink() and path.readlink().suffix == _DIRECT_SUFFIX:
            path = path.parent / path.readlink().with_suffix(".sock")
        return path.stat().st_mtime_ns
    return 0
