"""~/.jlab/sessions: publish, remove and list the records of running sessions.

One file per session means no lock: on network file systems locks lie.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UNAVAILABLE, JlabError
from ..files import private, writing
from ..identifiers import is_id, split_id
from .record import Record, RecordError, parse, render

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    _Stamp = tuple[int, int]


@dataclass(frozen=True)
class StoredRecord:
    """A record and the file it was read from."""

    path: Path
    record: Record


@dataclass(frozen=True)
class InvalidRecord:
    """A file that holds no usable record, and why, as a clause."""

    path: Path
    reason: str


def publish(directory: Path, record: Record, *, mtime: float | None = None) -> StoredRecord:
    """Write the record in one step; raises JlabError when the file system refuses.

    `mtime`: the Unix time that decides which session is the newest; None: now.
    """
    path = directory / record.id
    try:
        writing.write_atomically(path, render(record), modified=mtime)
    except OSError as error:
        raise JlabError(f"cannot publish the session in {path}: {error.strerror}") from error
    return StoredRecord(path, record)


def remove(stored: StoredRecord) -> bool:
    """Remove the record if it is still in its file; return whether it was removed."""
    if not is_current(stored):
        return False
    try:
        stored.path.unlink()
    except OSError:
        return False
    return True


def is_current(stored: StoredRecord) -> bool:
    """Return whether the file is still that session's, by what is in it."""
    return _token_in(stored.path) == stored.record.token


def is_replaced(stored: StoredRecord) -> bool:
    """Return whether the file is another session's by now."""
    return _token_in(stored.path) not in (None, stored.record.token)


def _token_in(path: Path) -> str | None:
    """Return whose record the file holds, whatever the file is called; None: nobody's."""
    with contextlib.suppress(OSError, ValueError, JlabError):
        return parse(private.read_own(path)).token
    return None


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
        """Yield what is there now, the newest first; only sessions of that name, or those jobs.

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
                for entry in entries:
                    if not entry.name.startswith(".") and _is_of(entry.name, name, jobs):
                        yield _stamp(entry), entry.name
        except OSError:
            return

    def _read(self, file: str, stamp: _Stamp) -> StoredRecord | InvalidRecord | None:
        known = self._known.get(file)
        if known is None or known[0] != stamp:
            known = self._known[file] = stamp, _read(self._directory / file)
        return known[1]


def _is_of(file: str, name: str | None, jobs: Container[str] | None) -> bool:
    """Return whether a record may be asked for, by its file's name: the id of its session."""
    if name is not None and name != file.split("-", 2)[-1]:
        return False
    return jobs is None or (is_id(file) and split_id(file)[1] in jobs)


def _stamp(entry: os.DirEntry[str]) -> _Stamp:
    """Return what changes when a file does: its time in ns, and the number of its inode."""
    try:
        found = entry.stat()
    except OSError:
        return 0, 0  # it vanished since it was listed
    return found.st_mtime_ns, found.st_ino


def mtime_ns(path: Path) -> int:
    """Return when the file was written, in ns of Unix time; 0 if it is not there any more."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> StoredRecord | InvalidRecord | None:
    """Return what the file holds; None: its session ended between listing and opening."""
    try:
        record = parse(private.read_own(path))
    except FileNotFoundError:
        return None
    except (RecordError, private.ForeignFile) as error:
        return InvalidRecord(path, str(error))
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is not text"
        return InvalidRecord(path, f"it cannot be read: {reason}")
    if path.name != record.id:
        return InvalidRecord(path, f"it says it is {record.id}")
    return StoredRecord(path, record)


def read_all(directory: Path) -> tuple[list[StoredRecord], list[InvalidRecord]]:
    """Return all records, the newest first, and the files that hold none."""
    found = list(RecordCache(directory).records())
    return (
        [each for each in found if isinstance(each, StoredRecord)],
        [each for each in found if isinstance(each, InvalidRecord)],
    )


def find_session(
    stored: Sequence[StoredRecord], wanted: str | None, *, start: str = "jlab-node run"
) -> StoredRecord:
    """Return the first session, or the first whose name or id is `wanted`.

    `start` is what one types to have a session there. Raises JlabError if there is none.
    """
    for each in stored:
        if wanted in (None, each.record.name, each.record.id):
            return each
    host = os.uname().nodename
    if wanted is None:
        raise JlabError(
            f"no session is running on {host}",
            remedy=f"start one there with `{start}`",
            exit_code=UNAVAILABLE,
        )
    names = ", ".join(each.record.name for each in stored) or "none"
    raise JlabError(
        f"no session is called {wanted!r} on {host}; running: {names}", exit_code=UNAVAILABLE
    )


def shown_name(path: Path) -> str:
    """Return the name of a file in ~/.jlab/sessions as it may be shown on a screen."""
    return re.sub(r"[^\x20-\x7e]", "?", path.name)
