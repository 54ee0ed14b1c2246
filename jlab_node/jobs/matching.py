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

# A quoted text, or an escaped character, or a comment: "$#" and "${#a}" begin none.
_COMMENT = re.compile(r"""('[^'\n]*'|"(?:\\.|[^"\\\n])*"|\\.)|(?<![^\s;&|(])#[^\n]*""")
_RUN = re.compile(r"""(?:^|[\s/;&|("'`])jlab[-_]node["']?[ \t]+(?:run\b|["']?\$)([^\n]*)""")
_NAMED = re.compile(r"\s--name[\s=]\s*['\"]?([^\s'\";&|<>()]*)")
_JOB_NAME = re.compile(r"jlab(?:-(.+))?")  # as `jlab-node script` calls them
_MOST_BLANKS = 20  # in the path of a script


def session_names(status: Status, script: str) -> list[str] | None:
    """Return the names of the sessions that the job will start.

    None: it will start some, but their names are not known.
    """
    text = f"{status.command}\n{script}".replace("\\\n", " ")
    text = _COMMENT.sub(lambda found: found[1] or "", text)
    runs = _RUN.findall(text)
    if runs:
        names = _NAMED.findall("\n".join(runs)) or ["lab"]
        return names if all(map(is_name, names)) else None  # a variable, perhaps
    if script:
        return None if _looks_like_one(status) else []
    named = _JOB_NAME.fullmatch(status.name)
    if named and is_name(named[1] or "lab"):
        return [named[1] or "lab"]
    return None if _looks_like_one(status) else []


def _looks_like_one(status: Status) -> bool:
    command = _COMMENT.sub(lambda found: found[1] or "", status.command)
    return "jlab" in f"{status.name} {command}".lower()


def will_start_session(
    status: Status, script: str, wanted: str | None, *, now: float, submitted_for_this: bool = False
) -> bool:
    """Return whether to wait for a job that has no session yet.

    `wanted`: the name of the session; None: any. `now` is in Unix seconds. `submitted_for_this`:
    the job was submitted for nothing else, whatever it looks like.
    """
    names = session_names(status, script)
    if names == [] and submitted_for_this:
        names = None
    if names == [] or (wanted and names and wanted not in names):
        return False
    if status.state is State.RUNNING:
        return status.starts_at is None or now - status.starts_at < STARTING_PERIOD
    return status.state is State.QUEUED


def script_paths(status: Status) -> list[str]:
    """Return what may be the job's script, if its command begins with an absolute path.

    Schedulers do not tell a blank in the path from the one before an argument.
    """
    if not status.command.startswith("/") or "\n" in status.command:
        return []
    words = status.command.split(" ")[: _MOST_BLANKS + 1]
    return [" ".join(words[:count]) for count in range(len(words), 0, -1)]
