"""The user's jobs as the scheduler lists them: asked seldom, and once for all that wait here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from filelock import Timeout

from ..files import private
from ..identifiers import is_job_id
from ..schedulers.base import Answer, State
from . import scheduler_client

if TYPE_CHECKING:
    from pathlib import Path

    from ..schedulers.base import Scheduler, Status

_LOCK_TIMEOUT = 30.0  # seconds: whoever has the lock is asking


class Queue:
    """Answers of one scheduler, kept in a file of this machine in ~/.jlab."""

    def __init__(self, scheduler: Scheduler, *, user: str, directory: Path) -> None:
        self.scheduler = scheduler
        self.jobs: list[Status] = []  # as of the last answer: queued, running
        self.problem = ""  # why there was no answer
        self.asked_at = 0.0  # Unix time of the answer
        self._command = scheduler.mine(user)
        self._path = directory / f"{os.uname().nodename}-{scheduler.NAME}"

    def look(self, *, max_age: float) -> bool:
        """Make `jobs` at most `max_age` seconds old; whether that took another look."""
        if 0 <= time.time() - self.asked_at < max_age:
            return False
        lock = self._path.with_name(f"{self._path.name}.lock")
        with contextlib.suppress(OSError):
            lock.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            with private.locked(lock, timeout=_LOCK_TIMEOUT):
                answer = self._answer(max_age)
        except Timeout:
            answer = self._answer(max_age)
        found = self.scheduler.parse_mine(answer)
        self.problem = scheduler_client.said(answer) if found is None else ""
        # Their numbers become words of commands.
        alive = [
            each for each in found or () if each.state is not State.ENDED and is_job_id(each.job_id)
        ]
        self.jobs = sorted(alive, key=_nearness)
        return True

    def _answer(self, max_age: float) -> Answer:
        """The one that is kept, or a new one."""
        answer = self._kept(max_age)
        if answer is None:
            self.asked_at = time.time()
            answer = scheduler_client.ask(self._command)
            # A full home costs the others a question of their own, no more.
            with contextlib.suppress(OSError):
                private.replace(self._path, json.dumps(asdict(answer)), modified=self.asked_at)
        return answer

    def _kept(self, max_age: float) -> Answer | None:
        try:
            asked_at = self._path.stat().st_mtime
            if not 0 <= time.time() - asked_at < max_age:
                return None
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            answer = Answer(int(kept["code"]), str(kept["stdout"]), str(kept["stderr"]))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        self.asked_at = asked_at
        return answer


def _nearness(job: Status) -> tuple[bool, float]:
    """What runs comes first, then what starts soon."""
    return job.state is State.QUEUED, job.starts_at or float("inf")
