"""The user's jobs as the scheduler lists them: asked seldom, and once for all that wait here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from filelock import Timeout

from ..files import private, writing
from ..identifiers import is_job_id
from ..schedulers.base import CommandResult, State
from . import scheduler_client

if TYPE_CHECKING:
    from pathlib import Path

    from ..schedulers.base import Scheduler, Status

_LOCK_TIMEOUT = 30.0  # seconds: whoever has the lock is asking


@dataclass(frozen=True)
class JobList:
    """One answer of the scheduler, or why there was none."""

    jobs: tuple[Status, ...] = ()  # queued and running, in the order of their starts
    problem: str = ""  # "": the scheduler has answered
    asked_at: float = 0.0  # Unix time of the question
    is_complete: bool = True  # False: some could not be read


class JobListCache:
    """Answers of one scheduler, kept in a file of this machine in ~/.jlab."""

    def __init__(self, scheduler: Scheduler, *, user: str, directory: Path) -> None:
        self.scheduler = scheduler
        self.latest = JobList()  # what was fetched last
        self._user = user
        self._path = directory / f"{os.uname().nodename}-{scheduler.NAME}"

    def fetch(self, *, max_age: float) -> JobList:
        """Return a list that is at most `max_age` seconds old; the latest one if that is."""
        if 0 <= time.time() - self.latest.asked_at < max_age:
            return self.latest
        lock = self._path.with_name(f"{self._path.name}.lock")
        with contextlib.suppress(OSError):
            lock.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            with private.locked(lock, timeout=_LOCK_TIMEOUT):
                answer, asked_at = self._cached(max_age) or self._ask()
        except Timeout:
            answer, asked_at = self._cached(max_age) or self._ask()
        self.latest = _parse(self.scheduler, answer, asked_at)
        return self.latest

    def _ask(self) -> tuple[CommandResult, float]:
        """Ask the scheduler and keep its answer; return that and the time of the question."""
        asked_at = time.time()
        answer = scheduler_client.ask_for_jobs(self.scheduler, self._user)
        # A full home costs the others a question of their own, no more.
        with contextlib.suppress(OSError):
            writing.write_atomically(self._path, json.dumps(asdict(answer)), modified=asked_at)
        return answer, asked_at

    def _cached(self, max_age: float) -> tuple[CommandResult, float] | None:
        """Return the answer that is kept and the time of its question; None: it is too old."""
        try:
            asked_at = self._path.stat().st_mtime
            if not 0 <= time.time() - asked_at < max_age:
                return None
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            answer = CommandResult(int(kept["code"]), str(kept["stdout"]), str(kept["stderr"]))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        return answer, asked_at


class Queue(JobListCache):
    """The cache by the name and the calls that it had, which tests/previous goes by."""

    look = JobListCache.fetch

    @property
    def jobs(self) -> tuple[Status, ...]:
        return self.latest.jobs

    @property
    def problem(self) -> str:
        return self.latest.problem


def _parse(scheduler: Scheduler, answer: CommandResult, asked_at: float) -> JobList:
    found = scheduler.parse_job_list(answer)
    if found is None:
        return JobList((), scheduler_client.error_message(answer), asked_at)
    # Their numbers become words of commands.
    readable = [job for job in found if is_job_id(job.job_id)]
    alive = sorted((job for job in readable if job.state is not State.ENDED), key=_start_order)
    return JobList(tuple(alive), "", asked_at, is_complete=len(readable) == len(found))


def _start_order(job: Status) -> tuple[bool, float]:
    """Sort what runs first, then what starts soon."""
    return job.state is State.QUEUED, job.starts_at or float("inf")
