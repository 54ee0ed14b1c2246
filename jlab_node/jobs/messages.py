"""What `connect` says of jobs and sessions, in sentences. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..identifiers import split_id
from ..schedulers import TABLE, local
from ..schedulers.base import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..registry.record import Record
    from ..schedulers.base import Status
    from .site import Site


def clock(moment: int, *, now: float) -> str:
    """Return a time of the day, with its date if that is another day than `now`'s; Unix seconds."""
    then, today = time.localtime(moment), time.localtime(now)
    form = "%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(form, then)


def job_ended(scheduler: str, job_id: str, status: Status) -> str:
    """Say how and when the job of a session ended, in a clause."""
    what = job(scheduler, job_id)
    if status.state is State.QUEUED:
        return f"{what} was put back in the queue"
    when = f" at {clock(status.ends_at, now=time.time())}" if status.ends_at else ""
    return f"{what} {status.reason}{when}"


def session_died(scheduler: str, job_id: str) -> str:
    """Say, in a clause, that a session died before its job."""
    return f"its jlab-node has ended, although {job(scheduler, job_id)} still runs"


def job(scheduler: str, job_id: str) -> str:
    """Return what a job is called in the middle of a sentence."""
    if scheduler == local.NAME:
        return f"its process {job_id}"
    return f"{TABLE[scheduler].DISPLAY_NAME} job {job_id}"


def job_restarted(scheduler: str, job_id: str) -> str:
    """Say, in a clause, that the job of a session has been started again."""
    return f"{job(scheduler, job_id)} was started again"


def what_became_of(session_id: str, status: Status | None) -> str:
    """Say what became of a session that is not there any more."""
    scheduler, job_id, name = split_id(session_id)
    if status is None or (scheduler == local.NAME and status.state is State.RUNNING):
        return f"session {name} is over"
    if status.state is State.RUNNING:
        return f"session {name} is over: {session_died(scheduler, job_id)}"
    return f"session {name} is over: {job_ended(scheduler, job_id, status)}"


def running(record: Record, *, now: float) -> str:
    """Say that a session can be used, where, and for how long."""
    where = "" if record.scheduler == local.NAME else f" in {job(record.scheduler, record.job_id)}"
    return f"session {record.name} runs on {record.node}{where}{time_left(record.ends_at, now=now)}"


def time_left(ends_at: int | None, *, now: float) -> str:
    """Say how long that is, as the end of a sentence; "" where it is not known."""
    if ends_at is None:
        return ""
    minutes = max(int(ends_at - now) // 60, 0)
    return f", {minutes // 60} h {minutes % 60} min left"


def jupyterlab_was_killed(scheduler: str) -> str:
    """Say, for the job's log, that JupyterLab was ended by signal 9, which nothing can answer."""
    option = TABLE[scheduler].MEMORY_OPTION if scheduler in TABLE else ""
    more = f" ({option})" if option else ""
    return (
        "JupyterLab was killed (signal 9): most often the job, or this machine, had too little "
        f"memory. Ask for more{more}, or load less at a time"
    )


def other_cluster(record: Record) -> str:
    """Say that only another cluster's machines know of a session."""
    if record.scheduler not in TABLE:
        return (
            f"session {record.id} is a {record.scheduler} job, which this jlab-node does not know: "
            "upgrade jlab-remote on this cluster"
        )
    if record.scheduler == local.NAME:
        return f"session {record.name} runs on {record.node}, which is another machine"
    cluster = f" of cluster {record.cluster}" if record.cluster else ""
    what = f"{job(record.scheduler, record.job_id)}{cluster}"
    return (
        f"session {record.name} runs on {record.node} in {what}, which this machine does not know"
    )


def records_removed(count: int) -> str:
    """Say how many records were removed beside that of the session whose end was told."""
    if count == 1:
        return "1 other session is over as well; its record is removed"
    return f"{count} other sessions are over as well; their records are removed"


def waiting(pending: Sequence[Status], *, now: float) -> str:
    """Say how it stands with the first of these jobs; what matters most comes first."""
    first = pending[0]
    name = f" ({first.name})" if first.name else ""
    more = f" (and {len(pending) - 1} more)" if len(pending) > 1 else ""
    if first.state is State.RUNNING:
        where = f" on {first.node}" if first.node else ""
        return f"job {first.job_id}{name} runs{where}; JupyterLab is starting{more}"
    why = f", {first.reason}" if first.reason else ""
    if first.starts_at is None:
        when = "its start is not known yet"
    elif first.starts_at < now + 60:
        when = "starts any moment"
    else:
        when = f"starts about {clock(first.starts_at, now=now)}"
    return f"job {first.job_id}{name} is queued, {when}: {first.raw_state}{why}{more}"


def starting(session_id: str, *, host: str) -> str:
    """Say that a session is being started on this machine."""
    return f"session {session_id} runs on {host}; JupyterLab is starting"


def job_never_became_session(status: Status) -> str:
    """Say that a job was waited for, and is no session."""
    what = f"job {status.job_id} ({status.name})" if status.name else f"job {status.job_id}"
    if status.state is State.ENDED:
        when = f" at {clock(status.ends_at, now=time.time())}" if status.ends_at else ""
        return f"{what} {status.reason}{when} before its session started: its log says why"
    if status.state is State.QUEUED:
        return f"{what} is not in the queue any more: its log may say why"
    return f"{what} has run for ten minutes and has no session yet: its log may say why"


def unreachable(failures: Sequence[str]) -> str:
    """Say that every route to a node is closed, and why; two lines."""
    return (
        f"no way leads there: {'; '.join(failures)}\n"
        "if the node is up, ask your site which ports pass from login to compute nodes, and say "
        "them to jlab-node run --port-range LO-HI"
    )


def how_to_start(site: Site | None) -> str:
    """Return what one types on the cluster's own machine to have a session."""
    return site.scheduler.SUBMIT_COMMAND.format("jlab.sh") if site else "jlab-node run"


def how_to_submit(site: Site, option: str = "") -> str:
    """Say how to submit a job that will be a session, with that option of `jlab-node run`."""
    script = f"jlab-node script {site.scheduler.NAME}{option} > jlab.sh"
    return f"submit one with `{how_to_start(site)}` (`{script}` writes it)"


@dataclass(frozen=True)
class NoSession:
    """What there is on a machine that has no wanted session, and no job that will be one."""

    site: Site | None  # None: a plain server
    host: str
    wanted: str | None  # the session's name; None: any
    names: Sequence[str]  # of the sessions that run
    job_count: int = 0  # jobs without a session
    other_pending: Sequence[Status] = ()  # those of them that will be one of another name
    ended_early: Sequence[Status] = ()  # those of them whose session is over


def no_session(found: NoSession) -> str:
    """Say that there is nothing to connect to, why, and how to start a session."""
    option = f" --name {found.wanted}" if found.wanted else ""
    called = f" called {found.wanted}" if found.wanted else ""
    running = f" (there are: {', '.join(found.names)})" if found.names else ""
    what = f"no session{called} to connect to"
    if found.site is None:
        start = f"start one there with `jlab-node run{option}`"
        return f"{what} on {found.host}{running}: {start}"
    about_jobs = _about_jobs(found, found.site)
    return f"{what}{running}, and {about_jobs}: log in and {how_to_submit(found.site, option)}"


def _about_jobs(found: NoSession, site: Site) -> str:
    """Say what the user's jobs are instead, in a clause."""
    title = site.scheduler.DISPLAY_NAME
    if found.other_pending:
        return f"your {title} job {_named(found.other_pending)} will be a session of another name"
    if found.ended_early:
        job = _named(found.ended_early)
        return f"the session of your {title} job {job} is over, although the job still runs"
    if found.job_count:
        other = " other" if found.names else ""
        return (
            f"none of your{other} {title} jobs ({found.job_count}) looks like a session (jlab in "
            "its name, or jlab-node in its script)"
        )
    return "you have no other job there" if found.names else "you have no job there"


def _named(jobs: Sequence[Status]) -> str:
    return ", ".join(f"{job.job_id} ({job.name})" for job in jobs)
