"""`jlab-node submit`: a job for a session, if there is none and none is on its way."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..errors import UNAVAILABLE, JlabError, sanitize
from ..jobs import scheduler_client, submission
from ..registry import home
from ..runtime import runtime_directory
from . import status
from .json_output import print_json
from .status import pending_sessions

if TYPE_CHECKING:
    from .status import SessionStatus


def submit(name: str | None, *, as_json: bool) -> None:
    """Submit by the command line on stdin, "": by the user's own, and print what was done.

    Raises JlabError.
    """
    directory, user = home.open_state_dir(), home.user()
    pending = pending_sessions(directory, name)
    typed = sys.stdin.readline().strip()
    submission.check(typed)
    text = typed or submission.command(directory, name)

    runtime_dir = runtime_directory.locate(os.environ, user)

    def look() -> SessionStatus:
        found = status.session_status(
            directory, pending, user=user, wanted=name, runtime_dir=runtime_dir, max_age=0
        )
        if found.state == status.UNKNOWN:
            raise JlabError(f"nothing is submitted: {found.text}", exit_code=UNAVAILABLE)
        return found

    found, site = look(), scheduler_client.site()
    if found.state != status.NONE:
        said = f"nothing is submitted: {found.text}"
    elif site is None or not text:
        raise JlabError(found.text, exit_code=UNAVAILABLE)
    else:
        said = submission.submit(
            directory,
            text,
            site.scheduler,
            is_needed=lambda: look().state == status.NONE,
            just_asked=bool(typed),
        )
    if as_json:
        print_json({"text": said})
    else:
        print(sanitize(said))
