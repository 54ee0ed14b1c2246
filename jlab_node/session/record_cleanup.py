"""What earlier sessions left in ~/.jlab, which were killed and nobody came back to, is removed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING

from .. import schedulers
from ..jobs import claims, liveness, snapshots
from ..registry import records, tombstones
from ..schedulers.base import is_complete
from . import session_scheduler_client
from .io_thread import IoThread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..jobs.liveness import JobSnapshot
    from ..registry.home import Home
    from ..registry.record import Record
    from ..schedulers.base import Status
    from .child_processes import Children

_TIMEOUT = 600.0  # seconds for old records, of which a slow home may have thousands


@contextlib.contextmanager
def in_background(home: Home, record: Record, children: Children) -> Iterator[None]:
    """Clean up once, while the session of `record` goes on."""
    cleaning = asyncio.ensure_future(_clean_up(home, record, children))
    try:
        yield
    finally:
        cleaning.cancel()


async def _clean_up(home: Home, record: Record, children: Children) -> None:
    scheduler = schedulers.TABLE[record.scheduler]
    asked_at = time.time()
    jobs = await session_scheduler_client.list_jobs(children, scheduler, record.user)
    if jobs is not None and is_complete(jobs):
        snapshot = snapshots.snapshot_of(scheduler, record.cluster, jobs, asked_at=asked_at)
        prune = functools.partial(_prune, home, record, jobs, snapshot)
        await IoThread().run(prune, timeout=_TIMEOUT)


def _prune(home: Home, record: Record, jobs: Sequence[Status], snapshot: JobSnapshot) -> None:
    """Remove the records, claims and tombstones whose jobs are not among the user's `jobs`."""
    published, _ = records.read_all(home.sessions)
    liveness.prune(published, [snapshot])
    claims.prune(home.sessions, [snapshot])
    listed = {job.job_id for job in jobs}
    tombstones.prune(home.sessions, record.scheduler, listed, cluster=record.cluster)
