"""Lists of all jobs of mine at a moment, which tell of many records by one question."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from .. import process_id
from ..schedulers import local
from ..schedulers.base import State, is_complete
from . import detection, job_of_record, liveness, scheduler_client
from .liveness import JobSnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..registry.records import StoredRecord
    from ..schedulers.base import Scheduler, Status


def alive_sessions(published: Sequence[StoredRecord], user: str) -> list[StoredRecord]:
    """Return the sessions whose jobs are not known to have ended: one question for all of them."""
    return filter_alive(published, take_snapshots(published, user))


def filter_alive(
    published: Sequence[StoredRecord], snapshots: Sequence[JobSnapshot]
) -> list[StoredRecord]:
    """Return the sessions of whose jobs no snapshot says that it does not run."""
    return [
        each
        for each in published
        if not any(snapshot.runs(each.record) is False for snapshot in snapshots)
    ]


def take_snapshots(published: Sequence[StoredRecord], user: str) -> list[JobSnapshot]:
    """Return the snapshots of my jobs that are needed to tell of these."""
    here = detection.site()
    records = [each.record for each in published]
    found = [local_snapshot(user)] if any(map(job_of_record.is_local_here, records)) else []
    if here and any(map(here.has, records)):
        found.append(_ask_for_snapshot(here.scheduler, here.cluster, user))
    return [each for each in found if each]


def _ask_for_snapshot(scheduler: Scheduler, cluster: str, user: str) -> JobSnapshot | None:
    """Return a snapshot of my jobs; None: the scheduler does not answer."""
    asked_at = time.time()
    found = scheduler_client.list_jobs(scheduler, user)
    return None if found is None else snapshot_of(scheduler, cluster, found, asked_at=asked_at)


def snapshot_of(
    scheduler: Scheduler, cluster: str, found: Sequence[Status], *, asked_at: float
) -> JobSnapshot:
    """Return what a list of my jobs says of records."""
    job_ids = frozenset(job.job_id for job in found if not liveness.has_ended(job) and job.job_id)
    processes: frozenset[str] = frozenset()
    if scheduler is local:
        processes = frozenset(process_id.identity(int(job_id)) for job_id in job_ids)
    return JobSnapshot(
        scheduler.NAME,
        cluster,
        job_ids,
        asked_at,
        processes,
        is_complete=is_complete(found),
        queued=frozenset(job.job_id for job in found if job.state is State.QUEUED),
    )


def local_snapshot(user: str) -> JobSnapshot | None:
    """Return a snapshot of the sessions here that are in no job; None: there is no usable ps."""
    return _ask_for_snapshot(local, socket.gethostname(), user)
