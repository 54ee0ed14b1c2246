"""The jobs of mine that will become a session: what whoever waits for one looks at."""

from __future__ import annotations

import functools
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..schedulers import local
from ..schedulers.base import UNREADABLE, State
from . import matching, messages, snapshots, submission
from .job_list_cache import JobList, JobListCache
from .job_scripts import JobScripts
from .jobs_with_records import JobsWithRecords

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from ..registry.home import Home
    from ..registry.record import Record
    from ..schedulers.base import Status
    from .liveness import JobSnapshot
    from .site import Site


def pending(
    expected: Iterable[Status],
    *,
    recorded: Container[str],
    ended_early: Container[str],
    is_fresh: bool,
) -> list[Status]:
    """Return those of the `expected` jobs that are still to become a session, in their order.

    Not those whose ids are in `recorded`, as they have a session, or in `ended_early`, as they had
    one. If the list is not `is_fresh`, one that ran then may have been cancelled since.
    """
    return [
        job
        for job in expected
        if (is_fresh or job.state is State.QUEUED)
        and job.job_id not in recorded
        and job.job_id not in ended_early
    ]


class PendingSessions:
    """The scheduler's list of my jobs beside the records, for whoever looks again and again.

    Only `refresh` asks the scheduler or changes anything; the rest tells of the list that is here.
    """

    def __init__(self, home: Home, site: Site | None, *, user: str, wanted: str | None) -> None:
        self._home = home
        self._site = site  # None: a plain server
        self._user = user
        self._wanted = wanted  # None: a session of any name
        self._records: JobsWithRecords | None = None
        self._scripts: JobScripts | None = None
        self._cache: JobListCache | None = None
        if site:
            self._records = JobsWithRecords(home.sessions, site)
            self._scripts = JobScripts(site.scheduler)
            self._cache = JobListCache(site.scheduler, user=user, directory=home.path / "queue")
        self._list = JobList()
        self._expected: list[Status] = []  # those of the list that may become a session
        self._snapshot: JobSnapshot | None = None  # what the list says of records
        self._began_at = time.time()

    def refresh(self, *, max_age: float) -> None:
        """Make the list at most `max_age` seconds old, which may ask the scheduler.

        Also remove the tombstones of jobs that a new list has not.
        """
        if not (self._site and self._cache and self._records and self._scripts):
            return
        self._began_at = min(self._began_at, time.time())  # the clock may have been set back
        before = self._cache.latest
        found = self._cache.fetch(max_age=max_age)
        if found is before:
            return
        self._list = found
        self._snapshot = _snapshot(self._site, found)
        self._scripts.read(found.jobs)
        self._expected = [job for job in found.jobs if self._will_start_session(job, self._wanted)]
        if found.is_complete and not found.problem:
            self._records.prune_tombstones(found.jobs)

    def jobs(self) -> list[Status]:
        """Return the jobs worth waiting for, the one that is nearest to being a session first.

        By the list that is here, and the records as they are now.
        """
        recorded, ended_early = self._with_session(self._expected)
        return pending(
            self._expected, recorded=recorded, ended_early=ended_early, is_fresh=self.is_fresh
        )

    def current_jobs(self, *, max_age: float) -> list[Status]:
        """Return the jobs worth waiting for, by a list at most `max_age` seconds old.

        That there is none, or that a job still runs, is told by no list that was kept: then the
        scheduler is asked.
        """
        self.refresh(max_age=max_age)
        unsure = any(job.state is State.RUNNING for job in self._expected)
        if not self.is_fresh and (unsure or not self.jobs()):
            self.refresh(max_age=0)
        return self.jobs()

    def _with_session(self, jobs: Sequence[Status]) -> tuple[set[str], set[str]]:
        """Return the ids of those that have a record, and of those whose session has ended."""
        if self._records is None:
            return set(), set()
        recorded = self._records.ids_with_record(jobs)
        others = [job for job in jobs if job.job_id not in recorded]
        return recorded, {job.job_id for job in others if self._records.session_ended_early(job)}

    def _will_start_session(self, job: Status, wanted: str | None) -> bool:
        return matching.will_start_session(
            job,
            self._scripts.text(job) if self._scripts else "",
            wanted,
            now=time.time(),
            submitted_for_this=job.job_id == submission.last_job(self._home),
        )

    def has_or_had_session(self, job: Status) -> bool:
        """Return whether there is a record of that job, or the tombstone of one."""
        return any(self._with_session([job]))

    def drop(self, job_id: str) -> None:
        """Take a job out of the list: it has ended since the scheduler was asked."""
        jobs = tuple(job for job in self._list.jobs if job.job_id != job_id)
        self._list = replace(self._list, jobs=jobs)
        self._expected = [job for job in self._expected if job.job_id != job_id]

    def job_has_ended(self, record: Record) -> bool:
        """Return whether the list that is here shows that a record's job has ended."""
        snapshot = self._local_snapshot if record.scheduler == local.NAME else self._snapshot
        return snapshot is not None and snapshot.job_has_ended(record)

    @functools.cached_property
    def _local_snapshot(self) -> JobSnapshot | None:
        return snapshots.local_snapshot(self._user)

    @property
    def is_fresh(self) -> bool:
        """Whether the scheduler has been asked since we began: what is kept may be a bit older."""
        return self._cache is None or self._list.asked_at >= self._began_at

    @property
    def problem(self) -> str:
        """That the scheduler does not answer, and why; "" where it does."""
        if self._site is None or not self._list.problem:
            return ""
        return f"{self._site.scheduler.DISPLAY_NAME} does not answer ({self._list.problem})"

    def no_session(self, *, names: Sequence[str]) -> messages.NoSession:
        """Return what there is instead of the wanted session; `names`: the sessions that run."""
        recorded, ended_early = self._with_session(self._list.jobs)
        others = [job for job in self._list.jobs if job.job_id not in recorded]
        return messages.NoSession(
            self._site,
            host=socket.gethostname(),
            wanted=self._wanted,
            names=names,
            job_count=len(others),
            other_pending=[
                job
                for job in others
                if self._will_start_session(job, None) and job.job_id not in ended_early
            ],
            ended_early=[job for job in others if job.job_id in ended_early],
        )


def _snapshot(site: Site, found: JobList) -> JobSnapshot | None:
    """Return what a list says of records; None: the scheduler did not answer."""
    if found.problem:
        return None
    jobs = found.jobs if found.is_complete else (*found.jobs, UNREADABLE)
    return snapshots.snapshot_of(site.scheduler, site.cluster, jobs, asked_at=found.asked_at)
