"""No scheduler: a plain server, where the job is the `jlab-node run` process itself."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil

from jlab_node.errors import JlabError

from .job import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jlab_node.record import Record

NAME = "local"


def detect(env: Mapping[str, str], *, host: str, pid: int) -> Job | None:  # noqa: ARG001
    """Every process is one."""
    return Job(scheduler=NAME, job_id=str(pid), cluster=host, node=host)


def ended(record: Record, *, host: str) -> str | None:
    """Only the machine itself knows its processes."""
    if record.node != host or _is_run(record.job_id):
        return None
    return f"its process {record.job_id} has ended"


def cancel(record: Record, *, host: str) -> None:
    """Ask the process to end, as Ctrl-C would."""
    if record.node != host:
        raise JlabError(f"session {record.id} runs on {record.node}: type this there")
    if not _is_run(record.job_id):
        raise JlabError(f"session {record.id} is not running any more")
    os.kill(int(record.job_id), signal.SIGTERM)


def _is_run(job_id: str) -> bool:
    """Whether the process is a `jlab-node run` of ours: process numbers are used again.

    Not by its age: that moves when the clock is set.
    """
    try:
        process = psutil.Process(int(job_id))
        words = process.cmdline()
        return (
            process.uids().real == os.getuid()
            and process.status() != psutil.STATUS_ZOMBIE
            and "run" in words
            and any(word.endswith(("jlab-node", "jlab_node")) for word in words)
        )
    except (psutil.Error, ValueError, OverflowError):
        return False
