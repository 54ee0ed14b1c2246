"""The jobs of mine that will become a session: what whoever waits for one looks at."""

from __future__ import annotations

import glob
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
            self._expected = [each for each in self._queue.jobs if self._is_expected(each)]
        return [
            each
            for each in self._expected
            # One that ran a moment ago may have been cancelled since.
            if (each.state is State.QUEUED or self.is_known) and not self.has_session(each.job_id)
        ]

    def _is_expected(self, status: Status) -> bool:
        if status.job_id == submit.last_job(self._home):
            return status.state is not State.ENDED
        return expected.is_expected(status, _script(status), self._wanted, now=time.time())

    def has_session(self, job_id: str) -> bool:
        """Whether that job has or had one: then it is a record that tells, or nothing does."""
        assert self._site is not None  # noqa: S101
        scheduler = self._site.scheduler.NAME
        return self._has_record(job_id) or sessions.is_buried(
            self._home.sessions, scheduler, job_id
        )

    def _has_record(self, job_id: str) -> bool:
        assert self._site is not None  # noqa: S101
        pattern = f"{self._site.scheduler.NAME}-{glob.escape(job_id)}-*"
        return any(self._home.sessions.glob(pattern))

    @property
    def is_known(self) -> bool:
        """Whether the scheduler has been asked since we began: what is kept may be a bit older."""
        return self._queue is None or self._queue.asked_at >= self._began_at

    @property
    def problem(self) -> str:
        """Why the scheduler does not answer; "" where it does."""
        return self._queue.problem if self._queue else ""

    @property
    def others(self) -> int:
        """How many jobs there are that have no session."""
        found = self._queue.jobs if self._queue else []
        return sum(not self._has_record(each.job_id) for each in found)


def _script(status: Status) -> str:
    """Text of the job's script, "" where it cannot be read."""
    path = expected.script_path(status)
    return jobs.read_text(path) if path else ""
