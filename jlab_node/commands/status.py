"""How it stands with a session: it runs, it will, it is over, or there is none."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import schedulers
from ..jobs import messages, scheduler_client
from ..registry import records
from ..registry.record import split_id
from ..runtime import session_lookup
from ..schedulers.base import State

if TYPE_CHECKING:
    from pathlib import Path

    from ..jobs.pending import Upcoming
    from ..registry.home import Home
    from ..registry.record import Record
    from ..registry.records import Published

RUNNING, STARTING, QUEUED, OVER, NONE, UNKNOWN = (
    "running",
    "starting",  # no job that is waited for, but on this machine
    "queued",  # also: its job runs, and JupyterLab does not answer yet
    "over",
    "none",
    "unknown",  # the scheduler does not answer
)
MAX_AGE = 2.0  # seconds that an answer of the scheduler may be old
_PATIENCE = 6.0  # seconds for a job to end after its session
_POLL = 2.0  # seconds between two questions to the scheduler


@dataclass(frozen=True)
class Standing:
    """One of the states above, in a sentence too."""

    state: str
    text: str
    record: Record | None = None  # of a session that runs
    job_id: str | None = None  # of one that is queued


def living(home: Home, *, user: str, unchecked: bool = False) -> list[Published]:
    """The sessions whose jobs have not ended, as far as can be told here, newest first.

    `unchecked`: without asking the scheduler.

    Those of this cluster come first, as ssh goes to no other: a home may be seen from several.
    """
    found, _ = records.read_all(home.sessions)
    if not unchecked:
        rolls = scheduler_client.rolls(found, user)
        records.sweep(found, rolls)
        found = scheduler_client.listed(found, rolls)
    return sorted(
        found, key=lambda each: not scheduler_client.can_tell(each.record, unchecked=unchecked)
    )


def look(
    home: Home,
    upcoming: Upcoming,
    *,
    user: str,
    wanted: str | None,
    base: Path,
    after: str | None = None,
    max_age: float = MAX_AGE,
) -> Standing:
    """How it stands with the session `wanted` (a name, an id; None: the newest).

    `after`: the id of the session that was there before; if there is none, what became of it.
    `max_age`: how old an answer of the scheduler may be, in seconds.
    """
    now = time.time()
    found = living(home, user=user)
    for each in found:
        if wanted in (None, each.record.name, each.record.id):
            return Standing(RUNNING, messages.running(each.record, now=now), record=each.record)
    ahead = upcoming.jobs(max_age=max_age)
    if ahead:
        return Standing(QUEUED, messages.waiting(ahead, now=now), job_id=ahead[0].job_id)
    for session_id in session_lookup.starting(base):
        if wanted in (None, session_id.split("-", 2)[-1]):
            return Standing(STARTING, messages.starting(session_id, host=socket.gethostname()))
    if upcoming.problem:
        return Standing(UNKNOWN, upcoming.problem)
    if after is not None:
        return Standing(OVER, fate(after))
    return Standing(NONE, upcoming.nothing(names=sorted({each.record.name for each in found})))


def fate(session_id: str) -> str:
    """What became of the session of that id, in a sentence; a job takes a moment to end."""
    scheduler, job_id, _ = split_id(session_id)
    module = schedulers.TABLE.get(scheduler)
    if module is None:
        return messages.fate(session_id, None)
    deadline = time.monotonic() + _PATIENCE
    while True:
        status = scheduler_client.look(module, job_id)
        ends = status is None or (status.state is not State.RUNNING and status.ends_at is not None)
        if ends or module is schedulers.local or time.monotonic() > deadline:
            return messages.fate(session_id, status)
        time.sleep(_POLL)
