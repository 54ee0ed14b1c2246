"""What a scheduler's answers say of sessions: of one by its job, of many by a list of all jobs.

Records stay behind where jobs are killed without a warning. One question tells of all of them.
Nobody is asked here.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import process_id
from ..registry import records
from ..registry.clock_tolerance import FAR, RESTART
from ..schedulers import local
from ..schedulers.base import State
from . import messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..registry.record import Record
    from ..registry.records import StoredRecord
    from ..schedulers.base import Status

_DAY = 86400  # seconds


@dataclass(frozen=True)
class JobSnapshot:
    """All the jobs of mine that have not ended, as one cluster had them at a moment."""

    scheduler: str
    cluster: str  # of local: the machine; "" where the scheduler has no name for it
    job_ids: frozenset[str]
    asked_at: float  # Unix time
    processes: frozenset[str] = frozenset()  # of local: the identities of those with these numbers
    is_complete: bool = True  # False: a job that is not among them may run
    queued: frozenset[str] = frozenset()  # those of the jobs that wait for their start

    def contains(self, record: Record) -> bool | None:
        """Return whether the record's job is among them.

        None: that cannot be told, as it is none of this cluster's, or the list does not say.
        """
        if not self._is_of(record):
            return None
        if record.process and self.scheduler == local.NAME:
            return record.process in self.processes
        if record.job_id in self.job_ids:
            return True
        is_told = self.is_complete and array_of(record.job_id) not in self.job_ids
        return False if is_told else None

    def runs(self, record: Record) -> bool | None:
        """Return whether the record's session may run; None: that cannot be told.

        A job that waits again, as its node failed, say, will have another session.
        """
        is_queued = record.job_id in self.queued and self._is_of(record)
        return False if is_queued else self.contains(record)

    def _is_of(self, record: Record) -> bool:
        if self.scheduler == local.NAME:
            here = record.scheduler == local.NAME and record.node == self.cluster
            return here and not process_id.is_in_another_namespace(record.process)
        return record.is_of(self.scheduler, self.cluster)

    def job_has_ended(self, record: Record) -> bool:
        """Return whether the record's job has surely ended: enough to remove the record."""
        if self.contains(record) is not False or record.started is None:
            return False
        if record.started > self.asked_at - FAR:
            return False  # it may have been submitted since, and its node's clock be slow
        if self.scheduler == local.NAME or (self.cluster and record.cluster):
            return True
        # A job that is not listed may be that of another cluster which has this home.
        return record.ends_at is not None and record.ends_at < self.asked_at - _DAY


def array_of(job_id: str) -> str:
    """Return the id by which PBS lists all elements of an array: "12[]" of "12[4]"; "" of others.

    Which of them have ended it does not say there.
    """
    return re.sub(r"\[[0-9]+\]$", "[]", job_id) if job_id.endswith("]") else ""


def has_ended(status: Status | None) -> bool:
    """Return whether the job is known to have ended."""
    return status is not None and status.state is State.ENDED


def was_restarted(record: Record, status: Status | None) -> bool:
    """Return whether the job has been started again since, as Slurm does when a node fails.

    By the scheduler's clock alone, if the record has that; the node's may go hours wrong.
    """
    if status is None or status.state is not State.RUNNING or not status.starts_at:
        return False
    if record.job_started:
        return status.starts_at - record.job_started > RESTART
    return bool(record.started) and status.starts_at - (record.started or 0) > FAR


@dataclass(frozen=True)
class JobEnded:
    """The run of the job that a session belonged to has ended; `how` is a clause."""

    how: str


@dataclass(frozen=True)
class JobSuspended:
    """The job does not run just now; `why` is a clause."""

    why: str


def verdict_on_session(record: Record, status: Status | None) -> JobEnded | JobSuspended | None:
    """Return what the state of a session's job says against the session; None: nothing."""
    if status is None:
        return None
    if status.state is not State.RUNNING:
        return JobEnded(messages.job_ended(record.scheduler, record.job_id, status))
    if was_restarted(record, status):
        return JobEnded(messages.job_restarted(record.scheduler, record.job_id))
    if status.reason:
        return JobSuspended(f"{messages.job(record.scheduler, record.job_id)} {status.reason}")
    return None


class Remains(enum.Enum):
    """What is to stay in ~/.jlab/sessions of a session that has ended."""

    NOTHING = enum.auto()
    TOMBSTONE = enum.auto()  # the job goes on, and nobody is to wait for it
    RECORD = enum.auto()  # for the job's new session to replace


def what_remains_of_session(record: Record, status: Status | None) -> Remains:
    """Return what is to stay of a session that has ended, by the state of its job.

    By its node's clock one only guesses that the job was started again: then the record stays.
    """
    if status is None or status.state is not State.RUNNING:
        return Remains.NOTHING
    if was_restarted(record, status) and not record.job_started:
        return Remains.RECORD
    return Remains.TOMBSTONE


def prune(published: Iterable[StoredRecord], snapshots: Sequence[JobSnapshot]) -> None:
    """Remove the records, the newest first, of sessions that are over and were not withdrawn.

    Not the newest of a name: whoever connects to that is told how it ended.
    """
    seen: set[str] = set()
    for each in published:
        name = each.record.name
        if name in seen and any(snapshot.job_has_ended(each.record) for snapshot in snapshots):
            records.remove(each)
        seen.add(name)
