"""Asking the scheduler: the commands that schedulers/ builds are run here, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from typing import TYPE_CHECKING

from .. import schedulers
from ..errors import JlabError
from ..registry import home
from ..schedulers.base import CommandResult, State, Status, is_complete
from . import liveness, messages

if TYPE_CHECKING:
    from ..schedulers.base import Scheduler

_ANSWER_TIMEOUT = 20.0  # seconds that a scheduler has to answer
_MAX_FILE_BYTES = 1 << 20

_given_up: list[subprocess.Popen[str]] = []  # kept, or Python would complain that they still run


def ask(command: list[str], *, timeout: float = _ANSWER_TIMEOUT) -> CommandResult:
    """Run a scheduler's command; one that cannot be run or takes too long has failed."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=schedulers.without_options(os.environ),
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        return CommandResult(127, "", f"{command[0]} is not on PATH here")
    except OSError as error:
        return CommandResult(126, "", f"{command[0]}: {error.strerror}")
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return CommandResult(124, "", f"no answer within {timeout:.0f} s")
    return CommandResult(process.returncode, stdout, stderr)


def _give_up(process: subprocess.Popen[str]) -> None:
    """Kill it; or do not wait: OAR's commands are another user's by now, and cannot be killed."""
    with contextlib.suppress(PermissionError):
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()  # it ends when it next says something
    if process.returncode is None:
        _given_up.append(process)


def list_jobs(scheduler: Scheduler, user: str) -> list[Status] | None:
    """Return the user's queued and running jobs; None: the scheduler does not answer."""
    return scheduler.parse_job_list(ask_for_jobs(scheduler, user))


def ask_for_jobs(scheduler: Scheduler, user: str) -> CommandResult:
    """Return the answer with the user's jobs: the first that is whole, or else the last."""
    read: CommandResult | None = None  # the last that could be read
    for command in scheduler.list_jobs_commands(user):
        answer = ask(command)
        found = scheduler.parse_job_list(answer)
        read = read if found is None else answer
        if is_complete(found):
            break
    return read or answer


def query_job(scheduler: Scheduler, job_id: str) -> Status | None:
    """Return what the scheduler knows of a job; None: it does not answer."""
    found: Status | None = None
    for command in scheduler.job_status_commands(job_id):
        status = scheduler.parse_job_status(job_id, ask(command))
        found = status or found
        if found and found.raw_state:
            break
    return found


def error_message(answer: CommandResult) -> str:
    """Return what a command that failed has to say, on one line."""
    lines = [line.strip() for line in (answer.stderr + answer.stdout).splitlines()]
    return next((line for line in lines if line), f"exit code {answer.code}")


def cancel_job(scheduler: Scheduler, job_id: str) -> None:
    """End a job, or take it out of the queue, but no other job; raises JlabError.

    Schedulers may fail to do so with exit code 0: whoever asks looks again.
    """
    job = query_job(scheduler, job_id) or Status(job_id, State.RUNNING)
    if liveness.has_ended(job):
        return
    answer = ask(scheduler.cancel_command(job))
    if answer.code:
        what = messages.job(scheduler.NAME, job_id)
        raise JlabError(f"{what} cannot be cancelled: {error_message(answer)}")


def is_out_of_list(scheduler: Scheduler, job_id: str) -> bool:
    """Return whether a job is surely not among the user's jobs any more."""
    listed = list_jobs(scheduler, home.user())
    if listed is None or not is_complete(listed):
        return False
    return job_id not in {job.job_id for job in listed}


def read_text(path: str) -> str:
    """Return the beginning of a file; "" where it cannot be read."""
    errors = OSError, ValueError  # a scheduler may name what cannot be the name of a file
    # A pipe would be waited for until somebody writes to it.
    with contextlib.suppress(*errors), open(path, "rb", opener=_opened_at_once) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(_MAX_FILE_BYTES).decode("utf-8", errors="replace")
    return ""


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
