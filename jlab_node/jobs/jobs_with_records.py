"""What ~/.jlab/sessions says of one cluster's jobs: which have a session, and which had one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import records, tombstones
from ..registry.records import StoredRecord
from ..schedulers.base import State
from . import liveness

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..schedulers.base import Status
    from .site import Site


class JobsWithRecords:
    """The records and tombstones of the jobs of `site`, for whoever looks again and again."""

    def __init__(self, directory: Path, site: Site) -> None:
        self._directory = directory
        self._site = site
        self._records = records.RecordCache(directory)

    def ids_with_record(self, jobs: Iterable[Status]) -> set[str]:
        """Return the ids of those of these jobs that have a record; no other record is opened."""
        by_id = {job.job_id: job for job in jobs}
        return {
            each.record.job_id
            for each in self._records.records(jobs=by_id)
            if isinstance(each, StoredRecord)
            and self._site.has(each.record)
            and by_id[each.record.job_id].state is not State.QUEUED  # it waits again
            and not liveness.was_restarted(each.record, by_id[each.record.job_id])
        }

    def session_ended_early(self, job: Status) -> bool:
        """Return whether the job runs on after its session; a queued one will have another."""
        return job.state is State.RUNNING and tombstones.exists(
            self._directory,
            self._site.scheduler.NAME,
            job.job_id,
            cluster=self._site.cluster,
            since=job.starts_at,
        )

    def prune_tombstones(self, listed: Iterable[Status]) -> None:
        """Remove the tombstones of jobs that the scheduler has not `listed`."""
        tombstones.prune(
            self._directory,
            self._site.scheduler.NAME,
            {job.job_id for job in listed},
            cluster=self._site.cluster,
        )
