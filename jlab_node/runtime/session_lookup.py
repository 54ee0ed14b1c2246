"""Which of the user's sessions on this node is meant, and which are starting."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from .. import process_id
from ..files import private
from ..identifiers import NEWEST, is_id
from . import leftovers

STARTING = "starting"  # the file that holds the id of a session until that is ready
CONTROL = "control"  # the socket on which a session takes requests
DIRECT = "direct"  # the socket on which its JupyterLab listens


def session_of(pid: int, runtime_dir: Path) -> Path | None:
    """Return the directory of the session that `pid` belongs to, else of the newest on this node.

    None: no session of the user has a directory in `runtime_dir`.
    """
    if not private.is_private(runtime_dir):
        return None  # another user's trap; `run` says so
    with contextlib.suppress(OSError):
        newest = runtime_dir / f"{NEWEST}.sock"
        above = session_of_ancestor(pid, runtime_dir)
        return above or runtime_dir / Path(os.readlink(newest)).parent  # noqa: PTH115
    return None


def session_of_ancestor(pid: int, runtime_dir: Path) -> Path | None:
    """Return the directory of the session that started `pid`, or the nearest process above it.

    None: no session did. Raises OSError where `runtime_dir` cannot be read.
    """
    sessions = leftovers.directories(runtime_dir)
    host = os.uname().nodename
    by_mark = {leftovers.owner(path): path for path in sessions}
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        for each in (process, *process.parents()):
            mark = host, process_id.identity(each.pid)
            if mark in by_mark:
                return by_mark[mark]
    return None


def starting(runtime_dir: Path, *, name: str | None = None) -> list[str]:
    """Return the ids of this node's sessions that are not ready yet, in order.

    `name`: only of sessions that are called so. Raises OSError where `runtime_dir` cannot be read.
    """
    if not private.is_private(runtime_dir):
        return []  # another user's trap; `run` says so
    alive = (path for path in leftovers.directories(runtime_dir) if not leftovers.is_stale(path))
    ids = sorted(text for text in (_text(path / STARTING) for path in alive) if is_id(text))
    return [each for each in ids if name in (None, each.split("-", 2)[-1])]


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""
