"""~/.jlab/sessions: publish, withdraw and list the records of running sessions.

One file per session means no lock: on network file systems locks lie.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UNAVAILABLE, JlabError
from ..files import private
from ..identifiers import is_id, split_id
from .clock_tolerance import RESTART, SKEW
from .record import Record, RecordError, parse, render

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

    _Stamp = tuple[int, int]

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
        private.replace(path, render(record), modified=as_of)
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

    def withdraw(self, *, job_lives_on: bool) -> None:
        """Remove the record, for good; `job_lives_on`: and let nobody wait for that job."""
        self._is_over = True
        if job_lives_on:
            bury(self._published)
        withdraw(self._published)  # if it could not be buried, too


def bury(published: Published) -> None:
    """Withdraw the record, if it is still this one, of a session that is over before its job is.

    What stays, and no reader takes for a record, keeps others from waiting for that job.
    """
    if not _is_still_there(published):
        return
    with contextlib.suppress(OSError):
        published.path.rename(published.path.with_name(_BURIED + published.path.name))


def is_buried(
    directory: Path, scheduler: str, job_id: str, *, cluster: str = "", since: int | None = None
) -> bool:
    """Whether that job has had a session since it was started (at that Unix time)."""
    return any(
        record.job_id == job_id and _is_since(path, record, since or 0)
        for path, record in _buried(directory, scheduler, cluster)
    )


def _is_since(path: Path, record: Record, since: int) -> bool:
    """By the scheduler's clock if that is known, or else by ours, which may differ from it."""
    if record.job_started:
        return since - record.job_started <= RESTART
    return _published_at(path) / 1e9 >= since - SKEW


def exhume(directory: Path, scheduler: str, job_id: str, *, cluster: str = "") -> None:
    """The job has ended, or starts another session."""
    for path, record in _buried(directory, scheduler, cluster):
        if record.job_id == job_id:
            _remove(path)


def exhume_others(directory: Path, scheduler: str, listed: set[str], *, cluster: str = "") -> None:
    """No reader waits any more for a job that is not among those `listed` by the scheduler."""
    for path, record in _buried(directory, scheduler, cluster):
        if record.job_id not in listed:
            _remove(path)


def _buried(directory: Path, scheduler: str, cluster: str) -> Iterator[tuple[Path, Record]]:
    """Those of one cluster, as far as the records tell."""
    for path in directory.glob(f"{_BURIED}{scheduler}-*"):
        with contextlib.suppress(OSError, ValueError, JlabError):
            record = parse(private.read_ours(path))
            if record.is_of(scheduler, cluster):
                yield path, record


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


class Shelf:
    """The records, for whoever looks again and again, or not at all of them.

    A file is read when its record is asked for, and again when it has changed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[_Stamp, Published | Unreadable | None]] = {}

    def look(
        self, *, name: str | None = None, jobs: Container[str] | None = None
    ) -> Iterator[Published | Unreadable]:
        """Newest first, what is there now; only sessions of that name, or of those jobs.

        The directory is listed before files are opened: listing is what makes NFS look again.
        """
        for stamp, file in sorted(self._listed(name, jobs), reverse=True):
            found = self._read(file, stamp)
            if found:
                yield found

    def _listed(
        self, name: str | None, jobs: Container[str] | None
    ) -> Iterator[tuple[_Stamp, str]]:
        try:
            with os.scandir(self._directory) as entries:
                for each in entries:
                    if not each.name.startswith(".") and _is_of(each.name, name, jobs):
                        yield _stamp(each), each.name
        except OSError:
            return

    def _read(self, file: str, stamp: _Stamp) -> Published | Unreadable | None:
        known = self._known.get(file)
        if known is None or known[0] != stamp:
            known = self._known[file] = stamp, _read(self._directory / file)
        return known[1]


def _is_of(file: str, name: str | None, jobs: Container[str] | None) -> bool:
    """By the name of its file, which is the id of its session."""
    if name is not None and name != file.split("-", 2)[-1]:
        return False
    return jobs is None or (is_id(file) and split_id(file)[1] in jobs)


def _stamp(entry: os.DirEntry[str]) -> _Stamp:
    """What changes when a file does; the time comes first."""
    try:
        found = entry.stat()
    except OSError:
        return 0, 0  # it vanished since it was listed
    return found.st_mtime_ns, found.st_ino


def read_all(directory: Path) -> tuple[list[Published], list[Unreadable]]:
    """All records, newest first, and the files that hold none."""
    found = list(Shelf(directory).look())
    return (
        [each for each in found if isinstance(each, Published)],
        [each for each in found if isinstance(each, Unreadable)],
    )


def _is_still_there(published: Published) -> bool:
    """Whether the file is still that session's, by what is in it."""
    return _token_in(published.path) == published.record.token


def _is_anothers(published: Published) -> bool:
    return _token_in(published.path) not in (None, published.record.token)


def _token_in(path: Path) -> str | None:
    """Whose record the file holds, whatever the file is called; None: nobody's."""
    with contextlib.suppress(OSError, ValueError, JlabError):
        return parse(private.read_ours(path)).token
    return None


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
        raise JlabError(
            f"no session is running on {host}",
            remedy=f"start one there with `{start}`",
            exit_code=UNAVAILABLE,
        )
    names = ", ".join(each.record.name for each in published) or "none"
    raise JlabError(
        f"no session is called {wanted!r} on {host}; running: {names}", exit_code=UNAVAILABLE
    )


def _published_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # it vanished since it was listed


def _read(path: Path) -> Published | Unreadable | None:
    try:
        record = parse(private.read_ours(path))
    except FileNotFoundError:
        return None  # its session ended between listing and opening
    except (RecordError, private.NotOurs) as error:
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
