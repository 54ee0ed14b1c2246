"""End a session and its job, or a job that would have become one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import claims, jobs, sessions, submit
from .errors import JlabError

if TYPE_CHECKING:
    from .home import Home
    from .sessions import Published

_TIMEOUT = 25.0  # seconds: JupyterLab alone has 15
_POLL = 0.3


def stop(home: Home, published: Published) -> None:
    """End the session's job and wait until it has ended; raises JlabError."""
    record = published.record
    jobs.cancel(record)
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        if jobs.is_gone(record):
            sessions.withdraw(published)
            claims.forget(home.sessions, record)
            submit.forget_end(home)
            return
        time.sleep(_POLL)
    raise JlabError(f"session {record.id} was told to stop, but still runs")
