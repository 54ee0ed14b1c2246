"""Which of a user's jobs will become a session, as far as name, command and script tell. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..identifiers import is_name
from ..schedulers.base import State

if TYPE_CHECKING:
    from ..schedulers.base import Status

STARTING_PERIOD = (
    600  # seconds after which a running job without a session is not starting one any more
)

_RUN = re.compile(r"^[^#\n]*?\bjlab[-_]node\b([^#\n]*)", re.MULTILINE)
_NAMED = re.compile(r"\s--name[\s=]\s*['\"]?([^\s'\";&|<>()]*)")


def session_names(status: Status, script: str) -> list[str] | None:
    """The sessions that the job will start: [] none, None: some, but their names are not known."""
    runs = _RUN.findall(f"{status.command}\n{script}".replace("\\\n", " "))
    if runs:
        names = _NAMED.findall("\n".join(runs)) or ["lab"]
        return names if all(map(is_name, names)) else None  # a variable, perhaps
    return None if "jlab" in f"{status.name} {status.command}".lower() else []


def will_start_session(
    status: Status, script: str, wanted: str | None, *, now: float, submitted_for_this: bool = False
) -> bool:
    """Whether to wait for a job that has no session yet.

    `submitted_for_this`: it was submitted for nothing else, whatever it looks like.
    """
    names = session_names(status, script)
    if names == [] and submitted_for_this:
        names = None
    if names == [] or (wanted and names and wanted not in names):
        return False
    if status.state is State.RUNNING:
        return status.starts_at is None or now - status.starts_at < STARTING_PERIOD
    return status.state is State.QUEUED


def script_path(status: Status) -> str | None:
    """The job's script, if its command begins with an absolute path."""
    word = status.command.split(" ")[0]
    return word if word.startswith("/") else None
