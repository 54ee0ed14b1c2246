"""What a session that has ended leaves behind in ~/.jlab, and what of it is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs import claims, liveness, submission
from ..registry import records, tombstones

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..registry.home import Home
    from ..registry.records import StoredRecord
    from ..schedulers.base import Status


def clear(home: Home, published: StoredRecord, status: Status | None) -> bool:
    """Remove what others would run into, as far as the state of the job allows.

    Begins the time in which no job is submitted by itself. Returns whether the record is removed.
    """
    rest = liveness.what_remains_of_session(published.record, status)
    if rest is liveness.Remains.TOMBSTONE:
        tombstones.mark_ended(published)
    elif rest is liveness.Remains.NOTHING:
        records.remove(published)
    if rest is not liveness.Remains.RECORD:
        claims.remove(home.sessions, published.record)
    ended_at = status.ends_at if status and liveness.has_ended(status) else None
    submission.start_cooldown(home, at=ended_at)  # while a job goes on, its end is the planned one
    return rest is not liveness.Remains.RECORD


def remove(ended: Iterable[StoredRecord]) -> int:
    """Remove the records of sessions whose jobs have ended; return how many were removed."""
    return sum(records.remove(each) for each in ended)
