"""`jlab-node submit`: a job for a session, if there is none and none is on its way."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

from ..errors import UNAVAILABLE, JlabError, sanitize
from ..jobs import detection, submission
from ..registry import home
from ..runtime import runtime_directory
from . import status
from .json_output import print_json
from .status import pending_sessions

if TYPE_CHECKING:
    from ..jobs.pending import PendingSessions
    from ..registry.home import Home
    from .status import SessionStatus


def submit(name: str | None, *, as_json: bool) -> None:
    """Submit by the command line on stdin, "": by the user's own, and print what was done.

    Raises JlabError.
    """
    directory = home.open_state_dir()
    ask = functools.partial(_ask, directory, pending_sessions(directory, name), name)
    typed = sys.stdin.readline().strip()
    submission.check(typed)
    command = typed or submission.command(directory, name)
    found, site = ask(), detection.site()
    if found.state != status.NONE:
        done = f"nothing is submitted: {found.text}"
    elif site is None or not command:
        raise JlabError(found.text, exit_code=UNAVAILABLE)
    else:
        done = submission.submit(
            directory,
            command,
            site.scheduler,
            is_needed=lambda: ask().state == status.NONE,
            just_asked=bool(typed),
        )
    if as_json:
        print_json({"text": done})
    else:
        print(sanitize(done))


def _ask(directory: Home, pending: PendingSessions, name: str | None) -> SessionStatus:
    """Return how it stands with the session; raises JlabError if the scheduler does not answer."""
    user = home.user()
    found = status.session_status(
        directory,
        pending,
        user=user,
        wanted=name,
        runtime_dir=runtime_directory.locate(os.environ, user),
        max_age=0,
    )
    if found.state == status.UNKNOWN:
        raise JlabError(f"nothing is submitted: {found.text}", exit_code=UNAVAILABLE)
    return found
