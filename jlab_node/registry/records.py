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

_TOMBSTONE_PREFIX = ".dead-"


@dataclass(frozen=True)
class StoredRecord:
    """A record and the file it was read from."""

    path: Path
    record: Record


@dataclass(frozen=True)
class InvalidRecord:
    """A file that holds no usable record, and why."""

    path: Path
    why: str


def publish(directory: Path, record: Record, *, mtime: float | None = None) -> StoredRecord:
    """Write the record in one step; raises JlabError when the file system refuses.

    `mtime`: the Unix time that decides which session is the newest; None: now.
    """
    path = directory / record.id
    try:
        private.write_atomically(path, render(record), modified=mtime)
    except OSError as error:
        raise JlabError(f"cannot publish the session in {path}: {error.strerror}") from error
    return StoredRecord(path, record)


def remove(published: StoredRecord) -> bool:
    """Remove the record if it is still this one; whether it was removed."""
    if not _is_current(published):
        return False
    try:
        published.path.unlink()
    except OSError:
        return False
    return True


class OwnRecord:
    """The record of a session that runs here: nobody else changes it, and only through this."""

    def __init__(self, directory: Path, record: Record) -> None:
        self.directory = directory
        self._published = publish(directory, record)
        self._mtime = _mtime_ns(self._published.path) / 1e9
        self._is_over = False

    @property
    def record(self) -> Record:
        return self._published.record

    def update(self, **changes: Any) -> None:
        """Publish these new values. The session is no newer for that. Raises JlabError."""
        if self._is_over or _replaced_by_other_session(self._published):
            return
        record = replace(self.record, **changes)
        self._published = publish(self.directory, record, mtime=self._mtime)

    def remove(self, *, job_lives_on: bool) -> None:
        """Remove the record, for good; `job_lives_on`: and let nobody wait for that job."""
        self._is_over = True
        if job_lives_on:
            mark_ended(self._published)
        remove(self._published)  # if it could not be buried, too


def mark_ended(published: StoredRecord) -> None:
    """Withdraw the record, if it is still this one, of a session that is over before its job is.

    What stays, and no reader takes for a record, keeps others from waiting for that job.
    """
    if not _is_current(published):
        return
    with contextlib.suppress(OSError):
        published.path.rename(published.path.with_name(_TOMBSTONE_PREFIX + published.path.name))


def has_tombstone(
    directory: Path, scheduler: str, job_id: str, *, cluster: str = "", since: int | None = None
) -> bool:
    """Whether that job has had a session since it was started (at that Unix time)."""
    return any(
        record.job_id == job_id and _is_since(path, record, since or 0)
        for path, record in _tombstones(directory, scheduler, cluster)
    )


def _is_since(path: Path, record: Record, since: int) -> bool:
    """By the scheduler's clock if that is known, or else by ours, which may differ from it."""
    if record.job_started:
        return since - record.job_started <= RESTART
    return _mtime_ns(path) / 1e9 >= since - SKEW


def remove_tombstones(directory: Path, scheduler: str, job_id: str, *, cluster: str = "") -> None:
    """The job has ended, or starts another session."""
    for path, record in _tombstones(directory, scheduler, cluster):
        if record.job_id == job_id:
            _remove(path)


def prune_tombstones(
    directory: Path, scheduler: str, listed: set[str], *, cluster: str = ""
) -> None:
    """No reader waits any more for a job that is not among those `listed` by the scheduler."""
    for path, record in _tombstones(directory, scheduler, cluster):
        if record.job_id not in listed:
            _remove(path)


def _tombstones(directory: Path, scheduler: str, cluster: str) -> Iterator[tuple[Path, Record]]:
    """Those of one cluster, as far as the records tell."""
    for path in directory.glob(f"{_TOMBSTONE_PREFIX}{scheduler}-*"):
        with contextlib.suppress(OSError, ValueError, JlabError):
            record = parse(private.read_own(path))
            if record.is_of(scheduler, cluster):
                yield path, record


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


class RecordCache:
    """The records, for whoever looks again and again, or not at all of them.

    A file is read when its record is asked for, and again when it has changed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[_Stamp, StoredRecord | InvalidRecord | None]] = {}

    def records(
        self, *, name: str | None = None, jobs: Container[str] | None = None
    ) -> Iterator[StoredRecord | InvalidRecord]:
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

    def _read(self, file: str, stamp: _Stamp) -> StoredRecord | InvalidRecord | None:
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


def read_all(directory: Path) -> tuple[list[StoredRecord], list[InvalidRecord]]:
    """All records, newest first, and the files that hold none."""
    found = list(RecordCache(directory).records())
    return (
        [each for each in found if isinstance(each, StoredRecord)],
        [each for each in found if isinstance(each, InvalidRecord)],
    )


def _is_current(published: StoredRecord) -> bool:
    """Whether the file is still that session's, by what is in it."""
    return _token_in(published.path) == published.record.token


def _replaced_by_other_session(published: StoredRecord) -> bool:
    return _token_in(published.path) not in (None, published.record.token)


def _token_in(path: Path) -> str | None:
    """Whose record the file holds, whatever the file is called; None: nobody's."""
    with contextlib.suppress(OSError, ValueError, JlabError):
        return parse(private.read_own(path)).token
    return None


def find_session(
    published: list[StoredRecord], wanted: str | None, *, start: str = "jlab-node run"
) -> StoredRecord:
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


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # it vanished since it was listed


def _read(path: Path) -> StoredRecord | InvalidRecord | None:
    try:
        record = parse(private.read_own(path))
    except FileNotFoundError:
        return None  # its session ended between listing and opening
    except (RecordError, private.ForeignFile) as error:
        return InvalidRecord(path, str(error))
    except (OSError, UnicodeDecodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "it is not text"
        return InvalidRecord(path, f"it cannot be read: {why}")
    if path.name != record.id:
        return InvalidRecord(path, f"it says it is {record.id}")
    return StoredRecord(path, record)


def printable(path: Path) -> str:
    """The name of a file in ~/.jlab/sessions as it may be shown on a screen."""
    return re.sub(r"[^\x20-\x7e]", "?", path.name)
