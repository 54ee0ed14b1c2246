"""What a session that has ended leaves behind in ~/.jlab, and what of it is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs import claims, liveness, submission
from ..registry import records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..registry.home import Home
    from ..registry.records import Published
    from ..schedulers.base import Status


def clear(home: Home, published: Published, status: Status | None) -> bool:
    """Remove what others would run into, as far as the state of the job allows.

    Begins the time in which no job is submitted by itself. Returns whether the record is removed.
    """
    rest = liveness.what_remains(published.record, status)
    if rest is liveness.Remains.TOMBSTONE:
        records.bury(published)
    elif rest is liveness.Remains.NOTHING:
        records.withdraw(published)
    if rest is not liveness.Remains.RECORD:
        claims.forget(home.sessions, published.record)
    ended_at = status.ends_at if status and liveness.has_ended(status) else None
    submission.note_end(home, at=ended_at)  # while a job goes on, its end is the planned one
    return rest is not liveness.Remains.RECORD


def remove(ended: Iterable[Published]) -> int:
    """Remove the records of sessions whose jobs have ended; return how many were removed."""
    return sum(records.withdraw(each) for each in ended)
