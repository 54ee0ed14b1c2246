"""What stays in ~/.jlab/sessions of a session that ended before its job: nobody waits for that job.

.dead-slurm-12-lab    the record, by a name that no reader takes for one
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import private
from . import records
from .clock_tolerance import RESTART, SKEW
from .record import Record, parse

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

    from .records import StoredRecord

_PREFIX = ".dead-"


def mark_ended(stored: StoredRecord) -> None:
    """Turn the record, if it is still in its file, into the tombstone of a session."""
    if not records.is_current(stored):
        return
    with contextlib.suppress(OSError):
        stored.path.rename(stored.path.with_name(_PREFIX + stored.path.name))


def exists(
    directory: Path, scheduler: str, job_id: str, *, cluster: str = "", since: int | None = None
) -> bool:
    """Return whether that job has had a session since it was started (at that Unix time)."""
    return any(
        record.job_id == job_id and _is_since(path, record, since or 0)
        for path, record in _all(directory, scheduler, cluster)
    )


def _is_since(path: Path, record: Record, since: int) -> bool:
    """Return whether the session was one of the run of its job that began at `since`.

    By the scheduler's clock if that is known, or else by ours, which may differ from it.
    """
    if record.job_started:
        return since - record.job_started <= RESTART
    return records.mtime_ns(path) / 1e9 >= since - SKEW


def remove(directory: Path, scheduler: str, job_id: str, *, cluster: str = "") -> None:
    """Remove the tombstones of a job that has ended, or starts another session."""
    for path, record in _all(directory, scheduler, cluster):
        if record.job_id == job_id:
            _unlink(path)


def prune(directory: Path, scheduler: str, listed: Container[str], *, cluster: str = "") -> None:
    """Remove the tombstones of the jobs that are not among those `listed` by the scheduler."""
    for path, record in _all(directory, scheduler, cluster):
        if record.job_id not in listed:
            _unlink(path)


def _all(directory: Path, scheduler: str, cluster: str) -> Iterator[tuple[Path, Record]]:
    """Yield the tombstones of one cluster's jobs, as far as the records tell."""
    for path in directory.glob(f"{_PREFIX}{scheduler}-*"):
        with contextlib.suppress(OSError, ValueError, JlabError):
            record = parse(private.read_own(path))
            if record.is_of(scheduler, cluster):
                yield path, record


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
