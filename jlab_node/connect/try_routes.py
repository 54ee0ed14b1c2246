"""What comes of trying one record: a connection to its session, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from .. import schedulers
from ..jobs import job_of_record, liveness, messages
from . import routes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..registry.record import Record


@dataclass(frozen=True)
class Connected:
    """A route into the session is open."""

    route: routes.OpenRoute


@dataclass(frozen=True)
class Ended:
    """The session has ended; `how` says how one knows."""

    how: str


@dataclass(frozen=True)
class Unreachable:
    """The session seems to run, but no route leads there; `why` is a clause."""

    why: str


@dataclass(frozen=True)
class Elsewhere:
    """The session's job is one that this machine does not know; `text` is a sentence."""

    text: str


Outcome = Union[Connected, Ended, Unreachable, Elsewhere]


def connect_to(
    record: Record, state_dir: Path, *, unresponsive: bool, show: Callable[[str], None]
) -> Outcome:
    """Try every route to the session of `record`.

    `state_dir` is ~/.jlab. `unresponsive`: the session's port did not even refuse, a moment ago.
    `show` is called with a line that says which route is tried.
    """
    if not job_of_record.is_on_this_cluster(record):
        return Elsewhere(messages.other_cluster(record))
    try:
        if record.ssh_port is None:
            return _as_its_job_stands(record) or Unreachable("there is no sshd to let you in")
        return _try_routes(record, state_dir, unresponsive=unresponsive, show=show)
    except routes.SessionEnded as ended:
        return Ended(str(ended))
    except routes.RouteUnavailable as unavailable:
        return Unreachable(str(unavailable))


def _as_its_job_stands(record: Record) -> Ended | Unreachable | None:
    """Return what the scheduler says against the session; None: nothing."""
    verdict = liveness.verdict_on_session(record, job_of_record.job_status_of(record))
    if isinstance(verdict, liveness.JobEnded):
        return Ended(verdict.how)
    if isinstance(verdict, liveness.JobSuspended):
        return Unreachable(verdict.why)
    return None


def _try_routes(
    record: Record, state_dir: Path, *, unresponsive: bool, show: Callable[[str], None]
) -> Outcome:
    """Try TCP, ask for the job, then try the other routes.

    Raises RouteUnavailable or SessionEnded.
    """
    failures = []
    if unresponsive:
        failures.append(f"TCP to port {record.ssh_port}: no answer")
    else:
        try:
            return Connected(routes.tcp(record))
        except routes.RouteUnavailable as unavailable:
            failures.append(f"TCP to port {record.ssh_port}: {unavailable}")
    against = _as_its_job_stands(record)
    if against:
        return against
    if record.scheduler == schedulers.local.NAME:
        return Unreachable(f"it does not answer ({failures[0]})")
    for route in routes.fallback_routes(record, state_dir, unresponsive=unresponsive):
        show(f"session {record.name} on {record.node}: trying {route.name} ({failures[-1]})")
        try:
            return Connected(routes.via_command(route.command, timeout=route.timeout))
        except routes.RouteUnavailable as unavailable:
            # Most programs say their name as well.
            why = str(unavailable).removeprefix(f"{route.name}: ")
            failures.append(f"{route.name}: {why}")
        except routes.SessionEnded as ended:
            if not route.is_outside:
                return Ended(messages.session_died(record.scheduler, record.job_id))
            # There the job's /tmp and its processes may look like none.
            failures.append(f"{route.name}: {ended}, as far as can be seen from outside of the job")
    # The job may have ended by now.
    return _as_its_job_stands(record) or Unreachable(messages.unreachable(failures))
