"""The jobs of mine that will become a session: what whoever waits for one looks at."""

from __future__ import annotations

import functools
import socket
import time
from typing import TYPE_CHECKING

from ..registry import records
from ..registry.records import Published
from ..schedulers import local
from ..schedulers.base import State
from . import liveness, matching, messages, submission
from . import scheduler_client as jobs
from .job_list_cache import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..registry.home import Home
    from ..registry.record import Record
    from ..schedulers.base import Status
    from .liveness import Roll
    from .site import Site


class Upcoming:
    """The scheduler's list of my jobs, and which of them are worth waiting for."""

    def __init__(self, home: Home, site: Site | None, *, user: str, wanted: str | None) -> None:
        self._home = home
        self._site = site
        self._user = user
        self._shelf = records.Shelf(home.sessions)
        self._wanted = wanted  # None: a session of any name
        self._queue = (
            Queue(site.scheduler, user=user, directory=home.path / "queue") if site else None
        )
        self._expected: list[Status] = []  # as of the queue's last answer
        self._roll: Roll | None = None  # the same, as to what it says of records
        self._began_at = time.time()

    def jobs(self, *, max_age: float) -> list[Status]:
        """Those jobs, the one that is nearest to being a session first."""
        if self._site is None or self._queue is None:
            return []
        self._began_at = min(self._began_at, time.time())  # the clock may have been set back
        if self._queue.look(max_age=max_age):
            found = self._queue.jobs
            self._roll = self._call_roll(self._site, self._queue)
            self._expected = [each for each in found if self._is_expected(each, self._wanted)]
            if not self._queue.problem:
                records.exhume_others(
                    self._home.sessions,
                    self._site.scheduler.NAME,
                    {each.job_id for each in found},
                    cluster=self._site.cluster,
                )
        published = self._published(self._expected)
        return [
            each
            for each in self._expected
            # One that ran a moment ago may have been cancelled since.
            if (each.state is State.QUEUED or self.is_known)
            and each.job_id not in published
            and not self._had_session(each)
        ]

    def _is_expected(self, status: Status, wanted: str | None) -> bool:
        return matching.is_expected(
            status,
            _script(status),
            wanted,
            now=time.time(),
            for_that=status.job_id == submission.last_job(self._home),
        )

    def has_session(self, job: Status) -> bool:
        """Whether that job has or had one: then it is a record that tells, or nothing does."""
        return job.job_id in self._published([job]) or self._had_session(job)

    def _had_session(self, job: Status) -> bool:
        """Whether it died, and the job runs on; one that is queued again will have another."""
        assert self._site is not None  # noqa: S101
        return job.state is State.RUNNING and records.is_buried(
            self._home.sessions,
            self._site.scheduler.NAME,
            job.job_id,
            cluster=self._site.cluster,
            since=job.starts_at,
        )

    def forget(self, job_id: str) -> None:
        """It has ended since the scheduler was asked."""
        if self._queue:
            self._queue.jobs = [each for each in self._queue.jobs if each.job_id != job_id]
            self._expected = [each for each in self._expected if each.job_id != job_id]

    def _published(self, found: Sequence[Status]) -> set[str]:
        """Those of these jobs of this cluster that have a record; no other record is opened."""
        assert self._site is not None  # noqa: S101
        by_id = {each.job_id: each for each in found}
        return {
            each.record.job_id
            for each in self._shelf.look(jobs=by_id)
            if isinstance(each, Published)
            and self._site.has(each.record)
            and not liveness.was_restarted(each.record, by_id[each.record.job_id])
        }

    def is_over(self, record: Record) -> bool:
        """Whether its job is known to have ended: by the list that is here, no further question."""
        roll = self._local_roll if record.scheduler == local.NAME else self._roll
        return roll is not None and roll.is_over(record)

    def _call_roll(self, site: Site, queue: Queue) -> Roll | None:
        if queue.problem:
            return None
        return jobs.roll(site.scheduler, site.cluster, queue.jobs, asked_at=queue.asked_at)

    @functools.cached_property
    def _local_roll(self) -> Roll | None:
        return jobs.local_roll(self._user)

    @property
    def is_known(self) -> bool:
        """Whether the scheduler has been asked since we began: what is kept may be a bit older."""
        return self._queue is None or self._queue.asked_at >= self._began_at

    @property
    def problem(self) -> str:
        """That the scheduler does not answer, and why; "" where it does."""
        if self._queue is None or not self._queue.problem:
            return ""
        return f"{self._queue.scheduler.TITLE} does not answer ({self._queue.problem})"

    def nothing(self, *, names: Sequence[str]) -> str:
        """That there is none of the wanted name; `names`: the sessions that there are."""
        mine = self._queue.jobs if self._queue else []
        published = self._published(mine) if mine else set()
        others = [each for each in mine if each.job_id not in published]
        dead = [each for each in others if self._had_session(each)]
        return messages.nothing(
            self._site,
            host=socket.gethostname(),
            wanted=self._wanted,
            names=names,
            jobs=len(others),
            coming=[each for each in others if self._is_expected(each, None) and each not in dead],
            dead=dead,
        )


def _script(status: Status) -> str:
    """Text of the job's script, "" where it cannot be read."""
    path = matching.script_path(status)
    return jobs.read_text(path) if path else ""
