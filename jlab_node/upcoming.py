"""The jobs of mine that will become a session: what whoever waits for one looks at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import expected, jobs, sessions, submit
from .queue import Queue
from .schedulers.job import State

if TYPE_CHECKING:
    from .home import Home
    from .jobs import Site
    from .schedulers.job import Status


class Upcoming:
    """The scheduler's list of my jobs, and which of them are worth waiting for."""

    def __init__(self, home: Home, site: Site | None, *, user: str, wanted: str | None) -> None:
        self._home = home
        self._site = site
        self._wanted = wanted  # None: a session of any name
        self._queue = (
            Queue(site.scheduler, user=user, directory=home.path / "queue") if site else None
        )
        self._expected: list[Status] = []  # as of the queue's last answer
        self._began_at = time.time()

    def jobs(self, *, max_age: float) -> list[Status]:
        """Those jobs, the one that is nearest to being a session first."""
        if self._queue is None:
            return []
        if self._queue.look(max_age=max_age):
            found = self._queue.jobs
            self._expected = [each for each in found if self._is_expected(each, self._wanted)]
            if self._site and not self._queue.problem:
                listed = {each.job_id for each in found}
                sessions.exhume_others(self._home.sessions, self._site.scheduler.NAME, listed)
        if not self._expected:
            return []
        return [
            each
            for each in self._expected
            # One that ran a moment ago may have been cancelled since.
            if (each.state is State.QUEUED or self.is_known) and not self.has_session(each)
        ]

    def _is_expected(self, status: Status, wanted: str | None) -> bool:
        return expected.is_expected(
            status,
            _script(status),
            wanted,
            now=time.time(),
            for_that=status.job_id == submit.last_job(self._home),
        )

    def has_session(self, job: Status) -> bool:
        """Whether that job has or had one: then it is a record that tells, or nothing does."""
        assert self._site is not None  # noqa: S101
        return job.job_id in self._published() or sessions.is_buried(
            self._home.sessions, self._site.scheduler.NAME, job.job_id, since=job.starts_at
        )

    def _published(self) -> set[str]:
        """The jobs of this cluster that have a record."""
        assert self._site is not None  # noqa: S101
        published, _ = sessions.read_all(self._home.sessions)
        return {each.record.job_id for each in published if self._site.has(each.record)}

    @property
    def is_known(self) -> bool:
        """Whether the scheduler has been asked since we began: what is kept may be a bit older."""
        return self._queue is None or self._queue.asked_at >= self._began_at

    @property
    def problem(self) -> str:
        """Why the scheduler does not answer; "" where it does."""
        return self._queue.problem if self._queue else ""

    @property
    def others(self) -> list[Status]:
        """The jobs that have no session, and will not be one of the wanted name."""
        if self._queue is None or not self._queue.jobs:
            return []
        published = self._published()
        return [each for each in self._queue.jobs if each.job_id not in published]

    def other_sessions(self) -> list[Status]:
        """Those of `others` that will be a session of another name than the wanted one."""
        if self._wanted is None:
            return []
        return [
            each
            for each in self.others
            if self._is_expected(each, None) and not self.has_session(each)
        ]


def _script(status: Status) -> str:
    """Text of the job's script, "" where it cannot be read."""
    path = expected.script_path(status)
    return jobs.read_text(path) if path else ""
