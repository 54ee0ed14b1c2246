"""The jobs of sessions, by their records: their state and times, and how to end one."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import psutil

from .. import process_id, schedulers
from ..errors import JlabError
from ..registry import home
from ..registry.clock_tolerance import SKEW
from ..schedulers import local
from ..schedulers.base import State, Status
from . import detection, liveness, messages, scheduler_client

if TYPE_CHECKING:
    from ..registry.record import Record
    from ..schedulers.base import Job


def times(job: Job | Record) -> tuple[int | None, int | None]:
    """Return start and end of the job, in Unix seconds by the scheduler's own clock.

    None where that is not known. Asks the scheduler where the environment did not tell the end.
    """
    if job.ends_at is not None or job.scheduler == local.NAME:
        return job.job_started, job.ends_at
    status = scheduler_client.query_job(schedulers.TABLE[job.scheduler], job.job_id)
    if status is None:
        return job.job_started, None
    running = status.state is State.RUNNING  # else its start may be an estimate
    return (status.starts_at if running else None) or job.job_started, status.ends_at


def job_status_of(record: Record) -> Status | None:
    """Return the state of a record's job; None where nobody can tell."""
    scheduler = schedulers.TABLE.get(record.scheduler)
    if scheduler is None or not is_on_this_cluster(record):
        return None
    if record.process and scheduler is local:
        return _of_process(record)
    status = scheduler_client.query_job(scheduler, record.job_id)
    return None if status is None or _is_of_another_cluster(record, status) else status


def _of_process(record: Record) -> Status | None:
    """Return the state of a session without a scheduler, by its process's identity.

    Numbers are used again. None: the process is another container's.
    """
    if process_id.is_in_another_namespace(record.process):
        return None
    if process_id.is_alive(record.process):
        return Status(record.job_id, State.RUNNING)
    return Status(record.job_id, State.ENDED, reason="has ended")


def _is_of_another_cluster(record: Record, status: Status) -> bool:
    """Return whether that is a job of this number on another cluster with this home."""
    if status.nodes:
        return record.node not in status.nodes
    # A session's job has run; and it is its owner's.
    never_ran = status.state is not State.RUNNING and status.starts_at is None
    return bool(status.owner) and (never_ran or status.owner != home.user())


def is_on_this_cluster(record: Record, *, unchecked: bool = False) -> bool:
    """Return whether the record's job is one that this machine knows of.

    `unchecked`: as far as is known without asking a scheduler.
    """
    if record.scheduler == local.NAME:
        return is_local_here(record)
    here = detection.remembered_site() if unchecked else detection.site()
    return here is not None and here.has(record)


def is_local_here(record: Record) -> bool:
    """Return whether the record is that of a session of this machine, in no job."""
    return record.scheduler == local.NAME and record.node == socket.gethostname()


def has_left_queue(record: Record) -> bool:
    """Return whether the job has ended, and all of it: schedulers take their time to tidy up."""
    if not liveness.has_ended(job_status_of(record)):
        return False
    scheduler = schedulers.TABLE[record.scheduler]
    return scheduler_client.is_out_of_list(scheduler, record.job_id)


def cancel(record: Record) -> None:
    """End the record's job; raises JlabError."""
    scheduler = schedulers.TABLE.get(record.scheduler)
    if scheduler is None:
        raise JlabError(messages.other_cluster(record))
    if not is_on_this_cluster(record):
        raise JlabError(f"session {record.id} runs on {record.node}", remedy="type this there")
    if scheduler is local:
        _check_is_that_session(record)
    scheduler_client.cancel_job(scheduler, record.job_id)


def _check_is_that_session(record: Record) -> None:
    """Raise JlabError unless the record's process still is that session.

    Else its number may be another process's, which nobody has asked to end.
    """
    if process_id.is_in_another_namespace(record.process):
        raise JlabError(
            f"session {record.id} runs in a container of its own", remedy="type this there"
        )
    is_that: bool | None = False
    if record.process:
        is_that = process_id.is_alive(record.process)
    else:  # of an older version
        with contextlib.suppress(psutil.Error):
            began = psutil.Process(int(record.job_id)).create_time()
            is_that = not record.started or began < record.started + SKEW
    if not is_that or liveness.has_ended(job_status_of(record)):
        raise JlabError(f"session {record.id} is over: its process has ended")
