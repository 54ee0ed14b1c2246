"""The schedulers that jobs can run under: one module each, and this table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jlab_node.errors import JlabError

from . import local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jlab_node.record import Record

    from .job import Job, Scheduler

# In the order of asking. `local` takes every process, so it comes last.
TABLE: dict[str, Scheduler] = {module.NAME: module for module in (local,)}


def detect(env: Mapping[str, str], *, host: str, pid: int) -> Job:
    """The job that this process runs in."""
    for scheduler in TABLE.values():
        job = scheduler.detect(env, host=host, pid=pid)
        if job is not None:
            return job
    raise AssertionError("local takes every process")


def ended(record: Record, *, host: str) -> str | None:
    """How the record's job ended, in words; None while it runs or where nobody can tell."""
    scheduler = TABLE.get(record.scheduler)
    return scheduler.ended(record, host=host) if scheduler else None


def cancel(record: Record, *, host: str) -> None:
    """End the record's job; raises JlabError."""
    scheduler = TABLE.get(record.scheduler)
    if scheduler is None:
        raise JlabError(
            f"session {record.id} is a {record.scheduler} job, which this jlab-node does not know: "
            "upgrade jlab-remote on this cluster"
        )
    scheduler.cancel(record, host=host)
