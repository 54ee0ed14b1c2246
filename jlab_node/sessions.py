"""~/.jlab/sessions: publish, withdraw and list the records of running sessions.

One file per session means no lock: on network file systems locks lie.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import files
from .errors import UNAVAILABLE, JlabError
from .record import Record, RecordError, parse, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BURIED = ".dead-"


@dataclass(frozen=True)
class Published:
    """A record and the file it was read from."""

    path: Path
    record: Record


@dataclass(frozen=True)
class Unreadable:
    """A file that holds no usable record, and why."""

    path: Path
    why: str


def publish(directory: Path, record: Record, *, as_of: float | None = None) -> Published:
    """Write the record in one step; raises JlabError when the file system refuses.

    `as_of`: the Unix time that decides which session is the newest; None: now.
    """
    path = directory / record.id
    try:
        files.replace(path, render(record), modified=as_of)
    except OSError as error:
        raise JlabError(f"cannot publish the session in {path}: {error.strerror}") from error
    return Published(path, record)


def withdraw(published: Published) -> bool:
    """Remove the record if it is still this one; whether it was removed."""
    if not _is_still_there(published):
        return False
    try:
        published.path.unlink()
    except OSError:
        return False
    return True


class Publication:
    """The record of a session that runs here: nobody else changes it, and only through this."""

    def __init__(self, directory: Path, record: Record) -> None:
        self.directory = directory
        self._published = publish(directory, record)
        self._as_of = _published_at(self._published.path) / 1e9
        self._is_over = False

    @property
    def record(self) -> Record:
        return self._published.record

    def amend(self, **changes: Any) -> None:
        """Publish these new values. The session is no newer for that. Raises JlabError."""
        if self._is_over or _is_anothers(self._published):
            return
        record = replace(self.record, **changes)
        self._published = publish(self.directory, record, as_of=self._as_of)

    def withdraw(self) -> None:
        """Remove the record, for good."""
        self._is_over = True
        withdraw(self._published)


def bury(published: Published) -> None:
    """Withdraw the record, if it is still this one, of a session that died and whose job lives on.

    What stays, and no reader takes for a record, keeps others from waiting for that job.
    """
    if not _is_still_there(published):
        return
    with contextlib.suppress(OSError):
        published.path.rename(published.path.with_name(_BURIED + published.path.name))


def is_buried(
    directory: Path, scheduler: str, job_id: str, *, cluster: str = "", since: int | None = None
) -> bool:
    """Whether that job has had a session that died since it was started (at that Unix time)."""
    return any(
        record.job_id == job_id and _published_at(path) >= (since or 0) * 10**9
        for path, record in _buried(directory, scheduler, cluster)
    )


def exhume(directory: Path, scheduler: str, job_id: str) -> None:
    """The job has ended, or starts another session."""
    for path in directory.glob(f"{_BURIED}{scheduler}-{glob.escape(job_id)}-*"):
        _remove(path)


def exhume_others(directory: Path, scheduler: str, listed: set[str], *, cluster: str = "") -> None:
    """No reader waits any more for a job that is not among those `listed` by the scheduler."""
    for path, record in _buried(directory, scheduler, cluster):
        if record.job_id not in listed:
            _remove(path)


def _buried(directory: Path, scheduler: str, cluster: str) -> Iterator[tuple[Path, Record]]:
    """Those of one cluster, as far as the records tell."""
    for path in directory.glob(f"{_BURIED}{scheduler}-*"):
        with contextlib.suppress(OSError, ValueError, RecordError):
            record = parse(path.read_text(encoding="utf-8"))
            if record.is_of(scheduler, cluster):
                yield path, record


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def read_all(directory: Path) -> tuple[list[Published], list[Unreadable]]:
    """All records, newest first, and the files that hold none.

    The directory is listed before files are opened: listing is what makes NFS look again.
    """
    try:
        paths = [path for path in directory.iterdir() if not path.name.startswith(".")]
    except OSError:
        return [], []
    newest = sorted(paths, key=_published_at, reverse=True)
    found = [_read(path) for path in newest]
    return (
        [each for each in found if isinstance(each, Published)],
        [each for each in found if isinstance(each, Unreadable)],
    )


def _is_still_there(published: Published) -> bool:
    """Whether no other session has taken its place: one of the same name in the same job."""
    found = _read(published.path)
    return isinstance(found, Published) and found.record.token == published.record.token


def _is_anothers(published: Published) -> bool:
    found = _read(published.path)
    return isinstance(found, Published) and found.record.token != published.record.token


def choose(
    published: list[Published], wanted: str | None, *, start: str = "jlab-node run"
) -> Published:
    """The first session, or the first whose name or id is `wanted`; raises JlabError.

    `start` is what one types to have a session there.
    """
    for each in published:
        if wanted in (None, each.record.name, each.record.id):
            return each
    host = os.uname().nodename
    if wanted is None:
        text = f"no session is running on {host}: start one there with `{start}`"
    else:
        names = ", ".join(each.record.name for each in published) or "none"
        text = f"no session is called {wanted!r} on {host}; running: {names}"
    raise JlabError(text, code=UNAVAILABLE)


def _published_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # it vanished since it was listed


def _read(path: Path) -> Published | Unreadable | None:
    try:
        record = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # its session ended between listing and opening
    except RecordError as error:
        return Unreadable(path, str(error))
    except (OSError, UnicodeDecodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "it is not text"
        return Unreadable(path, f"it cannot be read: {why}")
    if path.name != record.id:
        return Unreadable(path, f"it says it is {record.id}")
    return Published(path, record)


def printable(path: Path) -> str:
    """The name of a file in ~/.jlab/sessions as it may be shown on a screen."""
    return re.sub(r"[^\x20-\x7e]", "?", path.name)
