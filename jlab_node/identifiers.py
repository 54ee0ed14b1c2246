"""What names, ids and numbers may look like: the same in records, options and commands. Pure."""

from __future__ import annotations

import os
import re

MAX_PORT = 65535
NEWEST = "lab"  # the link to the newest session, and the default name of one
_LONGEST_SOCKET_PATH = 107  # bytes, as Linux has it
NAME = r"[a-z0-9][a-z0-9._-]{0,31}"
SCHEDULER = r"[a-z]{1,16}"
JOB_ID = r"[A-Za-z0-9][A-Za-z0-9._\[\]]{0,63}"  # PBS: 12[3].server
PROCESS = r"[1-9][0-9]{0,9}\.[0-9]{1,20}\.[0-9]{1,20}\.[0-9a-f]{32}"  # see process_id.py
BEFORE_SUFFIX = ".."  # in no job's number


def is_name(text: str) -> bool:
    """Return whether `text` can be the name of a session."""
    return re.fullmatch(NAME, text) is not None


def is_job_id(text: str) -> bool:
    """Return whether `text` can be the number of a job."""
    return re.fullmatch(JOB_ID, text) is not None


def is_id(text: str) -> bool:
    """Return whether `text` can be the id of a session."""
    return re.fullmatch(f"({SCHEDULER})-({JOB_ID})-({NAME})", text) is not None


def split_id(session_id: str) -> tuple[str, str, str]:
    """Return scheduler, job id and name of the session with that id, which `is_id`."""
    scheduler, job_id, name = session_id.split("-", 2)
    return scheduler, job_id.partition(BEFORE_SUFFIX)[0], name


def is_socket_path(value: object) -> bool:
    """Return whether it can be the path of a unix socket, whole."""
    if not (isinstance(value, str) and value.startswith("/") and value.isprintable()):
        return False
    return len(os.fsencode(value)) <= _LONGEST_SOCKET_PATH
