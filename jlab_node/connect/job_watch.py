"""The jobs that may become the wanted session: they are waited for, given up, or submitted."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from ..errors import UNAVAILABLE, JlabError
from ..jobs import detection, liveness, messages, scheduler_client, snapshots, submission
from ..jobs.pending import PendingSessions
from ..registry import records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..registry.home import Home
    from ..registry.record import Record
    from ..schedulers.base import Scheduler, Status
    from .request import ConnectRequest

EAGER_PERIOD = 10.0  # seconds of waiting in which the scheduler is asked often
EAGER_MAX_AGE, PATIENT_MAX_AGE = 2.0, 15.0  # seconds that its list of jobs may be old
LISTING_DELAY = 20.0  # seconds that a scheduler may take to list a new job


class JobWatch:
    """What the scheduler says while one attempt to connect waits, and what it was asked to do."""

    def __init__(self, home: Home, request: ConnectRequest, *, user: str) -> None:
        self._home = home
        self._request = request
        self._user = user
        self._site = detection.site()
        self._pending = PendingSessions(home, self._site, user=user, wanted=request.session)
        self._waited_for: Status | None = None  # the last one
        self._submitted_at: float | None = None  # by the monotonic clock

    def pending(self, *, waited: float) -> list[Status]:
        """Return the jobs that will be a session, the one that is nearest to it first.

        Asks the scheduler if its list is too old for one who has waited for so many seconds.
        """
        is_eager = waited < EAGER_PERIOD
        self._pending.refresh(max_age=EAGER_MAX_AGE if is_eager else PATIENT_MAX_AGE)
        return self._pending.jobs()

    @property
    def is_fresh(self) -> bool:
        """Whether the scheduler has been asked since the attempt began."""
        return self._pending.is_fresh

    def has_ended(self, record: Record) -> bool:
        """Return whether the last list shows that a record's job has ended."""
        return self._pending.job_has_ended(record)

    def start_cooldown(self, record: Record, status: Status | None) -> None:
        """Wait no more for the job of a session that has ended, and do not miss it either."""
        if liveness.has_ended(status):
            self._pending.drop(record.job_id)
        if self._waited_for and self._waited_for.job_id == record.job_id:
            self._waited_for = None  # it did become a session

    def wait_for(self, pending: Sequence[Status], starting: Sequence[str]) -> str:
        """Return what is waited for, in a sentence; "" where there is nothing to wait for.

        `starting` has the ids of sessions that are starting on this machine.
        """
        if pending:
            self._waited_for = pending[0]
            return messages.waiting(pending, now=time.time())
        if starting:
            return messages.starting(starting[0], host=socket.gethostname())
        if self._pending.problem:
            return f"{self._pending.problem}; asking again"
        if self._may_be_unlisted():
            return "a job was submitted; it is not listed yet"
        return ""

    def _may_be_unlisted(self) -> bool:
        """Return whether a job was submitted just now, which the scheduler may not list yet."""
        if self._submitted_at is None:
            return False
        return time.monotonic() - self._submitted_at < LISTING_DELAY

    def submit(self, *, has_session: Callable[[], bool], elsewhere: Sequence[str]) -> str:
        """Submit a job where the user has opted in; return what was done, in a sentence.

        `has_session` tells, when it is our turn, whether there is a session by then. `elsewhere`:
        what else to say if there is nothing to wait for. Raises JlabError then.
        """
        self._raise_if_never_became_session()
        wanted = self._request.session
        command = submission.command(self._home, wanted) if self._request.may_submit else ""
        if self._site is None or not command:
            names = _other_names(self._home, wanted, self._user)
            text = messages.no_session(self._pending.no_session(names=names))
            raise JlabError("\n".join([*elsewhere, text]), exit_code=UNAVAILABLE)
        done = self._submit(command, self._site.scheduler, has_session)
        self._submitted_at = time.monotonic()
        self._pending.refresh(max_age=0)
        return done

    def _raise_if_never_became_session(self) -> None:
        if self._site and self._waited_for:
            asked = scheduler_client.query_job(self._site.scheduler, self._waited_for.job_id)
            job = asked or self._waited_for
            if not self._pending.has_or_had_session(job):
                raise JlabError(messages.job_never_became_session(job), exit_code=UNAVAILABLE)

    def _submit(self, command: str, scheduler: Scheduler, has_session: Callable[[], bool]) -> str:
        def is_needed() -> bool:
            self._pending.refresh(max_age=0)
            if self._pending.jobs():
                return False
            if self._pending.problem:
                text = f"nothing is submitted: {self._pending.problem}"
                raise JlabError(text, exit_code=UNAVAILABLE)
            return not has_session()

        return submission.submit(
            self._home,
            command,
            scheduler,
            by_a_person=self._request.columns is not None,
            is_needed=is_needed,
        )


def _other_names(home: Home, wanted: str | None, user: str) -> list[str]:
    """Return the names of the sessions that run and are not wanted."""
    if wanted is None:
        return []
    published, _ = records.read_all(home.sessions)
    living = snapshots.alive_sessions(published, user)
    return sorted({each.record.name for each in living} - {wanted})
