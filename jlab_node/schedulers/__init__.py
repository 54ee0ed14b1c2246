"""The schedulers that jobs can run under: one module each, and this table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import local

if TYPE_CHECKING:
    from collections.abc import Mapping

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
