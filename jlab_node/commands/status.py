"""How it stands with a session: it runs, it will, it is over, or there is none."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import schedulers
from ..errors import UNAVAILABLE, JlabError, sanitize
from ..identifiers import split_id
from ..jobs import detection, job_of_record, liveness, messages, scheduler_client, snapshots
from ..jobs.pending import PendingSessions
from ..registry import home, records
from ..runtime import runtime_directory, session_lookup
from ..schedulers.base import State
from .json_output import print_json, public

if TYPE_CHECKING:
    from pathlib import Path

    from ..registry.home import Home
    from ..registry.record import Record
    from ..registry.records import StoredRecord

RUNNING, STARTING, QUEUED, ENDED, NONE, UNKNOWN = (
    "running",
    "starting",  # no job that is waited for, but on this machine
    "queued",  # also: its job runs, and JupyterLab does not answer yet
    "over",
    "none",
    "unknown",  # the scheduler does not answer
)
MAX_AGE = 2.0  # seconds that an answer of the scheduler may be old
_JOB_END_TIMEOUT = 6.0  # seconds for a job to end after its session
_POLL = 2.0  # seconds between two questions to the scheduler


@dataclass(frozen=True)
class SessionStatus:
    """One of the states above, in a sentence too."""

    state: str
    text: str
    record: Record | None = None  # of a session that runs
    job_id: str | None = None  # of one that is queued


@dataclass(frozen=True)
class RunningSessions:
    """The sessions whose jobs have not ended, as far as can be told, the newest first."""

    here: list[StoredRecord]  # of this cluster, or of this machine: ssh gets to these
    elsewhere: list[StoredRecord]  # a home may be seen from several

    def named(self, name: str | None, *, start: str = "jlab-node run") -> StoredRecord:
        """Return the one of that name or id, None: the newest; raises JlabError.

        `start`: what starts one here.
        """
        elsewhere = _named(self.elsewhere, name)
        if not _named(self.here, name) and elsewhere:
            raise JlabError(messages.other_cluster(elsewhere[0].record))
        return records.find_session(self.here, name, start=start)


def _named(sessions: list[StoredRecord], name: str | None) -> list[StoredRecord]:
    return [each for each in sessions if name in (None, each.record.name, each.record.id)]


def running_sessions(directory: Home, *, user: str, unchecked: bool = False) -> RunningSessions:
    """Return the sessions that run; `unchecked`: without asking the scheduler."""
    found, _ = records.read_all(directory.sessions)
    if not unchecked:
        taken = snapshots.take_snapshots(found, user)
        liveness.prune(found, taken)
        found = snapshots.filter_alive(found, taken)
    here = [
        each for each in found if job_of_record.is_on_this_cluster(each.record, unchecked=unchecked)
    ]
    return RunningSessions(here, [each for each in found if each not in here])


def pending_sessions(directory: Home, wanted: str | None) -> PendingSessions:
    """Return the jobs that will become a session of the name `wanted`; None: of any."""
    return PendingSessions(directory, detection.site(), user=home.user(), wanted=wanted)


def status(name: str | None, *, after: str | None, as_json: bool) -> int:
    """Print how it stands with the session NAME, None: the newest; the exit code.

    `after`: the id of the session that was there before. Raises JlabError.
    """
    directory, user = home.open_state_dir(), home.user()
    found = session_status(
        directory,
        pending_sessions(directory, name),
        user=user,
        wanted=name,
        after=after,
        runtime_dir=runtime_directory.locate(os.environ, user),
    )
    if as_json:
        session = public(found.record) if found.record else None
        print_json(
            {"state": found.state, "text": found.text, "session": session, "job_id": found.job_id}
        )
        return 0
    print(sanitize(found.text))
    return UNAVAILABLE if found.state in (ENDED, NONE) else 0


def session_status(
    directory: Home,
    pending: PendingSessions,
    *,
    user: str,
    wanted: str | None,
    runtime_dir: Path,
    after: str | None = None,
    max_age: float = MAX_AGE,
) -> SessionStatus:
    """Return how it stands with the session `wanted` (a name, an id; None: the newest).

    `after`: the id of the session that was there before; if there is none, what became of it.
    `max_age`: how old an answer of the scheduler may be, in seconds. Raises JlabError.
    """
    now = time.time()
    found = running_sessions(directory, user=user)
    for each in _named(found.here, wanted):
        return SessionStatus(RUNNING, messages.running(each.record, now=now), record=each.record)
    jobs = pending.current_jobs(max_age=max_age)
    if jobs:
        return SessionStatus(QUEUED, messages.waiting(jobs, now=now), job_id=jobs[0].job_id)
    starting = session_lookup.starting(runtime_dir, name=wanted)
    if starting:
        return SessionStatus(STARTING, messages.starting(starting[0], host=socket.gethostname()))
    if pending.problem:
        return SessionStatus(UNKNOWN, pending.problem)
    if after is not None:
        return SessionStatus(ENDED, what_became_of(after))
    names = sorted({each.record.name for each in found.here})
    lines = [messages.other_cluster(each.record) for each in _named(found.elsewhere, wanted)[:1]]
    lines.append(messages.no_session(pending.no_session(names=names)))
    return SessionStatus(NONE, "\n".join(lines))


def what_became_of(session_id: str) -> str:
    """Return what became of the session of that id, in a sentence.

    Waits some seconds for its job, which takes a moment to end.
    """
    scheduler, job_id, _ = split_id(session_id)
    module = schedulers.TABLE.get(scheduler)
    if module is None:
        return messages.what_became_of(session_id, None)
    deadline = time.monotonic() + _JOB_END_TIMEOUT
    while True:
        status = scheduler_client.query_job(module, job_id)
        ends = status is None or (status.state is not State.RUNNING and status.ends_at is not None)
        if ends or module is schedulers.local or time.monotonic() > deadline:
            return messages.what_became_of(session_id, status)
        time.sleep(_POLL)
