"""What `connect` says of jobs and sessions, in sentences. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .schedulers import TABLE, local
from .schedulers.job import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .jobs import Site
    from .record import Record
    from .schedulers.job import Status


def clock(moment: int, *, now: float) -> str:
    """A time of the day; with its date if that is another day."""
    then, today = time.localtime(moment), time.localtime(now)
    form = "%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(form, then)


def end(record: Record, status: Status) -> str:
    """How and when a job ended that has left its record behind."""
    what = f"{TABLE[record.scheduler].TITLE} job {record.job_id}"
    if record.scheduler == local.NAME:
        what = f"its process {record.job_id}"
    if status.state is State.QUEUED:
        return f"{what} was put back in the queue"
    when = f" at {clock(status.ends_at, now=time.time())}" if status.ends_at else ""
    return f"{what} {status.why}{when}"


def death(record: Record) -> str:
    """A session that died before its job."""
    return (
        f"its jlab-node has ended, although {TABLE[record.scheduler].TITLE} job {record.job_id} "
        "still runs"
    )


def elsewhere(record: Record) -> str:
    """A session that only another cluster's machines know of."""
    if record.scheduler not in TABLE:
        return (
            f"session {record.id} is a {record.scheduler} job, which this jlab-node does not know: "
            "upgrade jlab-remote on this cluster"
        )
    if record.scheduler == local.NAME:
        return f"session {record.name} runs on {record.node}, which is another machine"
    cluster = f" of cluster {record.cluster}" if record.cluster else ""
    job = f"{TABLE[record.scheduler].TITLE} job {record.job_id}{cluster}"
    return f"session {record.name} runs on {record.node} in {job}, which this machine does not know"


def waiting(ahead: Sequence[Status], *, now: float) -> str:
    """How it stands with the first of these jobs; what matters most comes first."""
    job = ahead[0]
    name = f" ({job.name})" if job.name else ""
    more = f" (and {len(ahead) - 1} more)" if len(ahead) > 1 else ""
    if job.state is State.RUNNING:
        where = f" on {job.node}" if job.node else ""
        return f"job {job.job_id}{name} runs{where}; JupyterLab is starting{more}"
    why = f", {job.why}" if job.why else ""
    if job.starts_at is None:
        when = "its start is not known yet"
    elif job.starts_at < now + 60:
        when = "starts any moment"
    else:
        when = f"starts about {clock(job.starts_at, now=now)}"
    return f"job {job.job_id}{name} is queued, {when}: {job.word}{why}{more}"


def in_vain(job: Status) -> str:
    """A job was waited for, and is no session."""
    name = f" ({job.name})" if job.name else ""
    if job.state is State.ENDED:
        when = f" at {clock(job.ends_at, now=time.time())}" if job.ends_at else ""
        return f"job {job.job_id}{name} {job.why}{when} before it was a session: its log says why"
    return (
        f"job {job.job_id}{name} has run for ten minutes and is no session yet: its log may say why"
    )


def no_way(failures: Sequence[str]) -> str:
    """Every way to a node is closed."""
    return (
        f"no way leads there: {'; '.join(failures)}\n"
        "if the node is up, ask your site which ports pass from login to compute nodes, and say "
        "them to jlab-node run --port-range LO-HI"
    )


def how_to_start(site: Site | None) -> str:
    """What one types on the cluster's own machine to have a session."""
    return site.scheduler.SUBMIT.format("jlab.sh") if site else "jlab-node run"


def submit_one(site: Site, option: str = "") -> str:
    """How to submit a job that will be a session, with that option of `jlab-node run`."""
    script = f"jlab-node script {site.scheduler.NAME}{option} > jlab.sh"
    return f"submit one with `{how_to_start(site)}` (`{script}` writes it)"


def nothing(
    site: Site | None, *, host: str, wanted: str | None, names: Sequence[str], jobs: int
) -> str:
    """There is no session and no job that will be one."""
    option = f" --name {wanted}" if wanted else ""
    what = f"no session called {wanted} to connect to" if wanted else "no session to connect to"
    running = f" (there are: {', '.join(names)})" if names else ""
    if site is None:
        return f"{what} on {host}{running}: start one there with `jlab-node run{option}`"
    mine = "you have no other job there" if names else "you have no job there"
    if jobs:
        other = " other" if names else ""
        mine = (
            f"none of your{other} {site.scheduler.TITLE} jobs ({jobs}) looks like one (by jlab in "
            "its name, or jlab-node in its script)"
        )
    return f"{what}{running}, and {mine}: log in and {submit_one(site, option)}"
