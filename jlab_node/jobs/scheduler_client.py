"""Asking the scheduler: the commands that schedulers/ builds are run here, and nowhere else."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .. import process_id, schedulers
from ..errors import JlabError
from ..registry import home
from ..registry.clock_tolerance import SKEW
from ..schedulers import local
from ..schedulers.base import CommandResult, Machine, State, Status, is_complete
from . import liveness, messages
from .liveness import JobSnapshot
from .site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..registry.record import Record
    from ..registry.records import StoredRecord
    from ..schedulers.base import Job, Scheduler

_TIMEOUT = 20.0  # seconds that a scheduler has to answer
_SITE_AGE = 86400.0  # seconds
_LONGEST_FILE = 1 << 20  # bytes

_given_up: list[subprocess.Popen[str]] = []  # kept, or Python would complain that they still run


def ask(command: list[str], *, timeout: float = _TIMEOUT) -> CommandResult:
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


def detect(env: Mapping[str, str]) -> Job:
    """The job that this process runs in, as far as the environment tells."""
    machine = Machine(socket.gethostname(), os.getpid(), is_here, read_text)
    for scheduler in schedulers.TABLE.values():
        job = scheduler.detect(env, machine)
        if job is not None:
            return job
    raise AssertionError("local takes every process")


def times(job: Job | Record) -> tuple[int | None, int | None]:
    """Its start and its end, by the scheduler's own clock; None where that is not known.

    Asks the scheduler where the environment did not tell the end.
    """
    if job.ends_at is not None or job.scheduler == local.NAME:
        return job.job_started, job.ends_at
    status = query_job(schedulers.TABLE[job.scheduler], job.job_id)
    if status is None:
        return job.job_started, None
    running = status.state is State.RUNNING  # else its start may be an estimate
    return (status.starts_at if running else None) or job.job_started, status.ends_at


@functools.cache
def site() -> Site | None:
    """The cluster here; None: a plain server. Found out once a day, by asking the scheduler."""
    candidates = _candidates()
    if not candidates:
        return None
    directory = home.state_dir()
    name, cluster, age = home.remembered_site(directory) or ("", "", math.inf)
    if name in candidates and 0 <= age < _SITE_AGE:
        return Site(candidates[name], cluster)
    scheduler = _first_responding(candidates)
    if scheduler is None:  # not now
        return remembered_site()
    command = scheduler.cluster_command()
    found = scheduler.parse_cluster(ask(command)) if command else ""
    if command and not found:  # it does not answer just now
        return Site(scheduler, cluster if name == scheduler.NAME else "")
    home.remember_site(directory, scheduler.NAME, found)
    return Site(scheduler, found)


def remembered_site() -> Site | None:
    """The cluster that was here last, else the first that may be; asks nobody."""
    candidates = _candidates()
    if not candidates:
        return None
    name, cluster, _ = home.remembered_site(home.state_dir()) or ("", "", 0)
    if name in candidates:
        return Site(candidates[name], cluster)
    return Site(next(iter(candidates.values())), "")


def _candidates() -> dict[str, Scheduler]:
    """Schedulers whose programs are on PATH."""
    return {
        name: each
        for name, each in schedulers.TABLE.items()
        if each is not local and shutil.which(each.PROBE_PROGRAM)
    }


def _first_responding(candidates: Mapping[str, Scheduler]) -> Scheduler | None:
    """Of several: there may be old commands that were left, or another scheduler's in disguise."""
    everyone = list(candidates.values())
    if len(everyone) == 1:
        return everyone[0]
    user = home.user()
    answering = (each for each in everyone if list_jobs(each, user) is not None)
    return next(answering, None)


def is_here(node: str) -> bool:
    """Whether this machine is the node of that name."""
    if node.partition(".")[0] == socket.gethostname().partition(".")[0]:
        return True
    try:
        named = {str(info[4][0]) for info in socket.getaddrinfo(node, None)}
    except (OSError, UnicodeError):
        return False
    ours = {each.address for found in psutil.net_if_addrs().values() for each in found}
    return bool(named & ours)


def list_jobs(scheduler: Scheduler, user: str) -> list[Status] | None:
    """The user's queued and running jobs; None: the scheduler does not answer."""
    return scheduler.parse_job_list(ask_for_jobs(scheduler, user))


def ask_for_jobs(scheduler: Scheduler, user: str) -> CommandResult:
    """Return the answer with the user's jobs: the first that is whole, or else the last."""
    answers: list[CommandResult] = []
    for command in scheduler.list_jobs_commands(user):
        answers.append(ask(command))
        if is_complete(scheduler.parse_job_list(answers[-1])):
            return answers[-1]
    read = [each for each in answers if scheduler.parse_job_list(each) is not None]
    return (read or answers)[-1]


def query_job(scheduler: Scheduler, job_id: str) -> Status | None:
    """What the scheduler knows of a job; None: it does not answer."""
    found: Status | None = None
    for command in scheduler.job_status_commands(job_id):
        status = scheduler.parse_job_status(job_id, ask(command))
        found = status or found
        if found and found.raw_state:
            break
    return found


def job_status_of(record: Record) -> Status | None:
    """The state of a record's job; None where nobody can tell."""
    scheduler = schedulers.TABLE.get(record.scheduler)
    if scheduler is None or not is_on_this_cluster(record):
        return None
    if record.process and scheduler is local:
        return _of_process(record)
    status = query_job(scheduler, record.job_id)
    return None if status is None or _is_of_another_cluster(record, status) else status


def _of_process(record: Record) -> Status | None:
    """Numbers are used again: it is told by its identity. None: it is another container's."""
    if process_id.is_in_another_namespace(record.process):
        return None
    if process_id.is_alive(record.process):
        return Status(record.job_id, State.RUNNING)
    return Status(record.job_id, State.ENDED, reason="has ended")


def _is_of_another_cluster(record: Record, status: Status) -> bool:
    """Whether that is a job of the same number on another cluster that has this home."""
    if status.nodes:
        return record.node not in status.nodes
    # A session's job has run; and it is its owner's.
    never_ran = status.state is not State.RUNNING and status.starts_at is None
    return bool(status.owner) and (never_ran or status.owner != home.user())


def alive(published: Sequence[StoredRecord], user: str) -> list[StoredRecord]:
    """Return the sessions whose jobs are not known to have ended: one question for all of them."""
    return filter_alive(published, snapshots(published, user))


def filter_alive(
    published: Sequence[StoredRecord], taken: Sequence[JobSnapshot]
) -> list[StoredRecord]:
    """Return the sessions of whose jobs no snapshot says that it does not run."""
    return [
        each
        for each in published
        if not any(snapshot.runs(each.record) is False for snapshot in taken)
    ]


def snapshots(published: Sequence[StoredRecord], user: str) -> list[JobSnapshot]:
    """Return the snapshots of my jobs that are needed to tell of these."""
    here = site()
    records = [each.record for each in published]
    found = [local_snapshot(user)] if any(map(_is_local_here, records)) else []
    if here and any(map(here.has, records)):
        found.append(_ask_for_snapshot(here.scheduler, here.cluster, user))
    return [each for each in found if each]


def _ask_for_snapshot(scheduler: Scheduler, cluster: str, user: str) -> JobSnapshot | None:
    """Return a snapshot of my jobs; None: the scheduler does not answer."""
    asked_at = time.time()
    found = list_jobs(scheduler, user)
    return None if found is None else snapshot_of(scheduler, cluster, found, asked_at=asked_at)


def snapshot_of(
    scheduler: Scheduler, cluster: str, found: Sequence[Status], *, asked_at: float
) -> JobSnapshot:
    """Return what a list of my jobs says of records."""
    alive = frozenset(job.job_id for job in found if not liveness.has_ended(job) and job.job_id)
    processes: frozenset[str] = frozenset()
    if scheduler is local:
        processes = frozenset(process_id.identity(int(each)) for each in alive)
    return JobSnapshot(
        scheduler.NAME,
        cluster,
        alive,
        asked_at,
        processes,
        is_complete=is_complete(found),
        queued=frozenset(job.job_id for job in found if job.state is State.QUEUED),
    )


def local_snapshot(user: str) -> JobSnapshot | None:
    """Return a snapshot of the sessions here that are in no job; None: there is no usable ps."""
    return _ask_for_snapshot(local, socket.gethostname(), user)


def _is_local_here(record: Record) -> bool:
    return record.scheduler == local.NAME and record.node == socket.gethostname()


def error_message(answer: CommandResult) -> str:
    """What a command that failed has to say."""
    lines = [line.strip() for line in (answer.stderr + answer.stdout).splitlines()]
    return next((line for line in lines if line), f"exit code {answer.code}")


def is_on_this_cluster(record: Record, *, unchecked: bool = False) -> bool:
    """Whether the record's job is one that this machine knows of.

    `unchecked`: as far as is known without asking a scheduler.
    """
    if record.scheduler == local.NAME:
        return _is_local_here(record)
    here = remembered_site() if unchecked else site()
    return here is not None and here.has(record)


def cancel(record: Record) -> None:
    """End the record's job; raises JlabError."""
    scheduler = schedulers.TABLE.get(record.scheduler)
    if scheduler is None:
        raise JlabError(messages.other_cluster(record))
    if not is_on_this_cluster(record):
        raise JlabError(f"session {record.id} runs on {record.node}", remedy="type this there")
    if scheduler is local:
        _check_is_that_session(record)
    cancel_job(scheduler, record.job_id)


def _check_is_that_session(record: Record) -> None:
    """Else its number may be another process's, which nobody has asked to end; raises JlabError."""
    if process_id.is_in_another_namespace(record.process):
        raise JlabError(
            f"session {record.id} runs in a container of its own", remedy="type this there"
        )
    is_that: bool | None = False
    if record.process:
        is_that = process_id.is_alive(record.process)
    else:  # of an older version
        with contextlib.suppress(psutil.Error):
            began = psutil.Process(int(record.job_id)).create_time()
            is_that = not record.started or began < record.started + SKEW
    if not is_that or liveness.has_ended(job_status_of(record)):
        raise JlabError(f"session {record.id} is over: its process has ended")


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


def has_left_queue(record: Record) -> bool:
    """Whether the job has ended, and all of it: schedulers take their time to tidy up."""
    if not liveness.has_ended(job_status_of(record)):
        return False
    return is_out_of_list(schedulers.TABLE[record.scheduler], record.job_id)


def is_out_of_list(scheduler: Scheduler, job_id: str) -> bool:
    """Whether a job is surely not among the user's jobs any more."""
    listed = list_jobs(scheduler, home.user())
    if listed is None or not is_complete(listed):
        return False
    return job_id not in {job.job_id for job in listed}


def read_text(path: str) -> str:
    """The beginning of a file; "" where it cannot be read."""
    errors = OSError, ValueError  # a scheduler may name what cannot be the name of a file
    with contextlib.suppress(*errors), Path(path).open("rb") as file:
        return file.read(_LONGEST_FILE).decode("utf-8", errors="replace")
    return ""
