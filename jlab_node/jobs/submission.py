"""Opt-in: submit a job when somebody connects and there is none. Once, however many connect.

A job that was lost is not replaced by a client that reconnects by itself: for a while after the
last session ended nothing is submitted, every attempt makes that while longer, and without a
terminal, where no person has typed anything, only the very first job is.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

from filelock import Timeout

from ..errors import UNAVAILABLE, JlabError
from ..files import private, writing

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Callable

    from ..registry.home import Home
    from ..schedulers.base import Scheduler

COOL_DOWN = 600  # seconds
_TIMEOUT = 60.0  # seconds for the command


def command_file(home: Home, wanted: str | None) -> Path:
    """Return the file that has what to submit for the session of that name."""
    return home.path / (f"submit-{wanted}" if wanted else "submit")


def set_command(home: Home, wanted: str | None, command: str) -> None:
    """Submit `command` whenever there is no job; "": never; raises JlabError."""
    path = command_file(home, wanted)
    check(command)
    try:
        if command:
            writing.write_atomically(path, command + "\n")
        else:
            path.unlink(missing_ok=True)
        _state_file(home).unlink(missing_ok=True)
    except OSError as error:
        raise JlabError(f"cannot write {path}: {error.strerror}") from error


def check(command: str) -> None:
    """Raise JlabError unless that is one command line."""
    if not command.isprintable() or len(command) > 4096:
        raise JlabError("--submit takes one command line")


def command(home: Home, wanted: str | None) -> str:
    """Return the command to submit by; "" where nobody opted in."""
    path = command_file(home, wanted)
    if not private.is_writable_only_by_us(path):
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def start_cooldown(home: Home, *, at: float | None = None) -> None:
    """Note that a session ended `at` (Unix seconds; None: now): who reconnects has lost it."""
    mark = _state_file(home)
    with contextlib.suppress(OSError):
        if at is None or not mark.exists() or mark.stat().st_mtime < at:
            mark.touch(mode=0o600)
            when = time.time() if at is None else at
            os.utime(mark, (when, when))


def clear_cooldown(home: Home) -> None:
    """Forget that a session ended: its owner has ended it on purpose."""
    with contextlib.suppress(OSError):
        _state_file(home).unlink(missing_ok=True)


def last_job(home: Home) -> str:
    """Return the id of the job that was submitted last, "" if there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _state_file(home).read_text(encoding="utf-8").strip()
    return ""


def submit(
    home: Home,
    text: str,
    scheduler: Scheduler,
    *,
    is_needed: Callable[[], bool],
    by_a_person: bool = True,
    just_asked: bool = False,
) -> str:
    """Submit by the command `text`, if it is still needed once it is our turn; what was done.

    `just_asked`: somebody has typed the command this minute, so it is not too soon.
    Raises JlabError.
    """
    try:
        with private.locked(home.path / "submit.lock", timeout=_TIMEOUT):
            if not is_needed():
                return "another connection of yours has submitted a job just now"
            if not just_asked:
                _refuse_too_soon(home, text, by_a_person=by_a_person)
            return _run(home, text, scheduler)
    except Timeout:
        raise JlabError(
            "another connection of yours is submitting a job and has not ended for a minute"
        ) from None


def _refuse_too_soon(home: Home, text: str, *, by_a_person: bool) -> None:
    mark = _state_file(home)
    try:
        age = time.time() - mark.stat().st_mtime
    except OSError:
        return
    if by_a_person and not 0 <= age < COOL_DOWN:
        return
    start_cooldown(home)
    if by_a_person:
        why = "so soon after the last one ended or was submitted (every attempt counts)"
        instead = f"connect again in {COOL_DOWN // 60} minutes"
    else:
        why = "without a terminal once a session has ended"
        instead = "use ssh in a terminal"
    raise JlabError(
        f"there is no session, and jlab-node submits no job {why}",
        remedy=f"type `{text}` on the cluster, or {instead}",
        exit_code=UNAVAILABLE,
    )


def _run(home: Home, text: str, scheduler: Scheduler) -> str:
    """Run the user's own command line, by sh, in $HOME."""
    try:
        done = subprocess.run(
            ["sh", "-c", text],
            cwd=home.path.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JlabError(
            f"`{text}` has not ended for {_TIMEOUT:.0f} s", remedy="try it by hand"
        ) from None
    except OSError as error:
        raise JlabError(f"`{text}` could not be run: {error.strerror}") from error
    said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    if done.returncode:
        raise JlabError(f"`{text}` failed: {said[-1] if said else done.returncode}")
    job = re.search(scheduler.SUBMIT_OUTPUT_RE, done.stdout)
    with contextlib.suppress(OSError):
        writing.write_atomically(_state_file(home), job[1] if job else "")
    return (
        f"submitted {scheduler.DISPLAY_NAME} job {job[1]} by `{text}`"
        if job
        else f"`{text}` was run"
    )


def _state_file(home: Home) -> Path:
    """Return the file that is as old as the last submission or end of a session.

    Its text is the id of the job that was submitted last.
    """
    return home.path / "submitted"
