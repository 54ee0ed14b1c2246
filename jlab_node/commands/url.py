"""`jlab-node url`: the address that logs a browser in to a session."""

from __future__ import annotations

import os

from ..errors import UNAVAILABLE, JlabError
from ..jobs import detection, messages
from ..registry import home
from ..runtime import runtime_directory, session_lookup
from .json_output import print_json, public
from .status import running_sessions


def url(name: str | None, *, port: int, unchecked: bool, as_json: bool) -> None:
    """Print the address of the session NAME at `port` of the laptop; raises JlabError.

    None: of the newest session. `unchecked`: without asking the scheduler whether it still runs.
    """
    directory, user = home.open_state_dir(), home.user()
    published = running_sessions(directory, user=user, unchecked=unchecked)
    starting = session_lookup.starting(runtime_directory.locate(os.environ, user))
    if starting and not published.here:
        raise JlabError(
            f"session {starting[0]} is starting", remedy="try again soon", exit_code=UNAVAILABLE
        )
    start = messages.how_to_start(detection.remembered_site() if unchecked else detection.site())
    record = published.named(name, start=start).record
    path = f":{port}{record.base_url}lab?token={record.token}"
    if as_json:  # laptops of 0.1.0 know this name alone; newer ones put the number there
        address = f"{record.scheme}://localhost{path}"
        print_json({"id": record.id, "url": address, "session": public(record)})
    else:
        print(f"{record.scheme}://127.0.0.1{path}")
