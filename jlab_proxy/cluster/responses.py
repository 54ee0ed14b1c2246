"""What a cluster says of its sessions and jobs: held against narrow patterns before use. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import messages
from ..errors import printable
from ..port_check import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

_ID = re.compile(r"[a-z]{1,16}-[A-Za-z0-9._\[\]]{1,64}-[a-z0-9][a-z0-9._-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\[\]]{0,63}")
_SOCKET_DIR = re.compile(r"/[A-Za-z0-9._/-]{1,107}")
_MAX_TEXT = 1000  # characters of a sentence
_MAX_ENTRIES = 1000  # sessions or jobs
_STATES = ("running", "starting", "queued", "over", "none", "unknown")


@dataclass(frozen=True)
class Session:
    """One running session."""

    id: str
    name: str
    node: str
    scheduler: str
    job_id: str
    ends_at: int | None  # Unix time, seconds
    exposed: tuple[str, ...]  # names of what else can be forwarded
    socket_dir: str | None = None  # on the node; None: an older cluster does not say

    def left(self, now: float) -> str:
        """Return how long it still has; "" if that is not known."""
        if self.ends_at is None:
            return ""
        minutes = max(int(self.ends_at - now) // 60, 0)
        return f"{minutes // 60} h {minutes % 60} min"

    def describe(self, now: float) -> str:
        """Return where it runs and how long it has, in one line."""
        where = "" if self.scheduler == "local" else f", {self.scheduler} job {self.job_id}"
        left = self.left(now)
        return f"session {self.name} on {self.node}{where}{f', {left} left' if left else ''}"


@dataclass(frozen=True)
class Queued:
    """A job that will be a session."""

    job_id: str
    text: str


@dataclass(frozen=True)
class Standing:
    """How it stands with a session: `jlab-node status`."""

    state: str  # one of _STATES
    text: str
    session: Session | None = None
    job_id: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether there is, or will be, something to connect to, as far as anybody knows."""
        return self.state not in ("over", "none")


def parse_session(raw: Any) -> Session:
    """Return the session; raises JlabError if a value does not fit."""
    values = raw if isinstance(raw, dict) else {}
    exposed, place = values.get("exposed"), values.get("socket_dir")
    exposed = exposed if isinstance(exposed, list) else []  # an older cluster knows nothing of it
    return Session(
        id=_matching(_ID, values.get("id")),
        name=_matching(_NAME, values.get("name")),
        node=_text(values.get("node")),
        scheduler=_text(values.get("scheduler")),
        job_id=_text(values.get("job_id")),
        ends_at=_time(values.get("ends_at")),
        exposed=tuple(_matching(_NAME, each) for each in exposed),
        socket_dir=_matching(_SOCKET_DIR, place) if place is not None else None,
    )


def parse_sessions(answer: Mapping[str, Any]) -> tuple[list[Session], list[Queued]]:
    """Return the sessions and the jobs in an answer to `ls`; raises JlabError."""
    sessions, jobs = answer.get("sessions"), answer.get("jobs", [])
    if not isinstance(sessions, list) or not isinstance(jobs, list):
        raise messages.invalid_answer()
    queued = [
        Queued(_matching(_JOB_ID, each.get("job_id")), _text(each.get("text")))
        for each in jobs[:_MAX_ENTRIES]
        if isinstance(each, dict)
    ]
    return [parse_session(each) for each in sessions[:_MAX_ENTRIES]], queued


def parse_standing(answer: Mapping[str, Any]) -> Standing:
    """Return what an answer to `status` says; raises JlabError."""
    state, session, job_id = (answer.get(key) for key in ("state", "session", "job_id"))
    return Standing(
        state if state in _STATES else "unknown",
        _text(answer.get("text")),
        parse_session(session) if session else None,
        _matching(_JOB_ID, job_id) if job_id else None,
    )


def parse_url(answer: Mapping[str, Any], port: int) -> str:
    """Return the address in an answer to `url`, which is one of this computer; raises JlabError.

    By number, whatever the cluster calls it: `localhost` leads a browser to ::1 as well.
    """
    address = answer.get("url")
    pattern = rf"(https?)://(?:localhost|127\.0\.0\.1):{port}(/[\w.~%/-]*lab\?token=[0-9a-f]{{64}})"
    found = re.fullmatch(pattern, address, re.ASCII) if isinstance(address, str) else None
    if found is None:
        raise messages.invalid_answer()
    return f"{found[1]}://{HOST}:{port}{found[2]}"


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise messages.invalid_answer()
    return value


def _text(value: Any) -> str:
    return printable(value[:_MAX_TEXT]) if isinstance(value, str) else ""


def _time(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 10**12 else None
