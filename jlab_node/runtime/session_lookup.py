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
    """The directory of the session that `pid` belongs to; else of the newest on this node."""
    if not private.is_private(runtime_dir):
        return None  # another user's trap; `run` says so
    with contextlib.suppress(OSError):
        newest = runtime_dir / f"{NEWEST}.sock"
        above = session_of_ancestor(pid, runtime_dir)
        return above or runtime_dir / Path(os.readlink(newest)).parent  # noqa: PTH115
    return None


def session_of_ancestor(pid: int, runtime_dir: Path) -> Path | None:
    """The session that started the process `pid`, or the nearest process above it that has one."""
    sessions = leftovers.directories(runtime_dir)
    here = os.uname().nodename
    marks = {leftovers.owner(path): path for path in sessions}
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        for each in (process, *process.parents()):
            mark = here, process_id.identity(each.pid)
            if mark in marks:
                return marks[mark]
    return None


def starting(runtime_dir: Path) -> list[str]:
    """The ids of this node's sessions that are not ready yet, in order."""
    if not private.is_private(runtime_dir):
        return []  # another user's trap; `run` says so
    alive = (path for path in leftovers.directories(runtime_dir) if not leftovers.is_stale(path))
    found = (_text(path / STARTING) for path in alive)
    return sorted(text for text in found if is_id(text))


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""
