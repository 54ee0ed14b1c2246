"""End a session and its job, or a job that would have become one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..jobs import scheduler_client, submission
from ..registry import claims, records

if TYPE_CHECKING:
    from ..registry.home import Home
    from ..registry.records import Published

_TIMEOUT = 25.0  # seconds: JupyterLab alone has 15
_POLL = 0.3


def stop(home: Home, published: Published) -> None:
    """End the session's job and wait until it has ended; raises JlabError."""
    record = published.record
    scheduler_client.cancel(record)
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        if scheduler_client.is_gone(record):
            records.withdraw(published)
            claims.forget(home.sessions, record)
            submission.forget_end(home)
            return
        time.sleep(_POLL)
    raise JlabError(f"session {record.id} was told to stop, but still runs")
