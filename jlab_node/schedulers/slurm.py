"""Slurm 20.11 or newer: https://slurm.schedmd.com/sbatch.html, squeue.html, srun.html."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import JlabError
from . import parsing
from .base import UNREADABLE, CommandResult, Job, JobRequest, Machine, State, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "slurm"
DISPLAY_NAME = "Slurm"
PROBE_PROGRAM = "squeue"
JOB_ID = "SLURM_JOB_ID"
SUBMIT_COMMAND = "sbatch {}"
SUBMIT_OUTPUT_RE = r"Submitted batch job ([0-9]+)"
LOG_ONLY_AT_END = False
INTERACTIVE_COMMAND = "srun --pty jlab-node run"
MEMORY_OPTION = "--mem"

# squeue, scancel and srun take options from these. A session's own job has more of them.
OPTION_VARIABLES = (
    r"(SLURM|SRUN|SALLOC|SBATCH|SQUEUE|SCANCEL|SACCT)_"
    r"(?!CONF$|CONF_SERVER$|JWT$|CLUSTERS$|CLUSTER_NAME$).*"
)
_UNIX_TIMES = ["env", "SLURM_TIME_FORMAT=%s"]
_RECORD, _FIELD = "\x01", "\x1f"
# id of the very job (of an array, the task), state, reason, start, end, nodes; the array's id, the
# task in it; name, command. What the user chooses comes last: it may have anything in it.
_FORMAT = _RECORD + _FIELD.join(["%A", "%T", "%r", "%S", "%e", "%N", "%F", "%K", "%j", "%o"])
_KNOWN_FIELDS = 6  # what has to be there to know a job

_QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
_QUEUED |= {"SPECIAL_EXIT"}  # it failed in a way that holds it: it can be released
_ENDED = {
    "BOOT_FAIL": "could not start its node",
    "CANCELLED": "was cancelled",
    "COMPLETED": "has finished",
    "COMPLETING": "is ending",
    "DEADLINE": "reached its deadline",
    "FAILED": "failed",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "ran out of memory",
    "PREEMPTED": "was preempted",
    "REVOKED": "was revoked",
    "TIMEOUT": "reached its time limit",
}
_CAUSES = {"TimeLimit": "TIMEOUT", "NonZeroExitCode": "FAILED", "OutOfMemory": "OUT_OF_MEMORY"}


def detect(env: Mapping[str, str], machine: Machine) -> Job | None:
    """Return the job step or batch script that slurmd started here; not the shell of an salloc."""
    job_id, node = env.get(JOB_ID), env.get("SLURMD_NODENAME")
    if not job_id or not node or not machine.is_here(node):
        return None
    return Job(
        scheduler=NAME,
        job_id=job_id,
        cluster=env.get("SLURM_CLUSTER_NAME", ""),
        node=node,
        # Since 23.02; before, squeue tells.
        job_started=_time(env.get("SLURM_JOB_START_TIME", "")),
        ends_at=_time(env.get("SLURM_JOB_END_TIME", "")),
    )


def cluster_command() -> list[str]:
    return ["scontrol", "show", "config"]


def parse_cluster(answer: CommandResult) -> str:
    found = re.search(r"^ClusterName\s*=\s*(\S+)", answer.stdout, re.MULTILINE)
    return found[1] if found else ""


def list_jobs_commands(user: str) -> list[list[str]]:
    squeue = ["squeue", "--all", "--noheader", f"--user={user}", f"--format={_FORMAT}"]
    return [[*_UNIX_TIMES, *squeue]]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    return None if answer.code else _parse(answer.stdout)


def job_status_commands(job_id: str) -> list[list[str]]:
    squeue = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", f"--format={_FORMAT}"]
    # What squeue has forgotten after some minutes, accounting may know.
    fields = "--format=JobIDRaw,State,End"
    sacct = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job_id}", fields]
    return [[*_UNIX_TIMES, *squeue], [*_UNIX_TIMES, *sacct]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    if answer.code:
        forgotten = "Invalid job id" in answer.stderr
        return Status(job_id, State.ENDED, reason="has ended") if forgotten else None
    found = [*_parse(answer.stdout), *_parse_accounts(answer.stdout)]
    return next((status for status in found if status.job_id == job_id), None)


def _parse(printed: str) -> list[Status]:
    """Return each job of a list, UNREADABLE for one whose fields are not all there."""
    return [_status(fields) for fields in _records(printed)]


def _records(printed: str) -> list[list[str]]:
    if _RECORD in printed:
        records = printed.split(_RECORD)[1:]  # before the first: a note, "CLUSTER: cal1"
        return [record.rstrip("\n").split(_FIELD) for record in records]
    # What an older version asked for, and kept: a line each, without the array.
    lines = [line.split(_FIELD) for line in printed.splitlines() if _FIELD in line]
    for fields in lines:
        fields[_KNOWN_FIELDS:_KNOWN_FIELDS] = ["", ""] if len(fields) >= _KNOWN_FIELDS else []
    return lines


def _status(fields: list[str]) -> Status:
    if len(fields) < _KNOWN_FIELDS:
        return UNREADABLE
    job_id, raw_state, reason, start, end, node = fields[:_KNOWN_FIELDS]
    array_id, task, name, command = [*fields[_KNOWN_FIELDS:], "", "", "", ""][:4]
    state, cause = _state(raw_state), _cause(raw_state, reason)
    return Status(
        job_id=job_id,
        state=state,
        raw_state=raw_state,
        reason=_ENDED.get(cause, "has ended")
        if state is State.ENDED
        else _reason(raw_state, reason),
        name=name,
        command="" if command == "(null)" else command,
        node="" if node in ("n/a", "N/A", "(null)") else node,
        starts_at=_time(start),
        ends_at=None if cause == "COMPLETING" else _time(end),
        cancel_id=_cancel_id(job_id, array_id, task),
    )


def _cancel_id(job_id: str, array_id: str, task: str) -> str | None:
    """Return what scancel takes for that very job: of an array, ARRAY_TASK.

    The last task of an array has the array's own number, with which scancel would end all tasks.
    None: it is not known.
    """
    if not array_id:
        return None
    if re.fullmatch(r"[0-9]+", task):
        return f"{array_id}_{task}"
    waiting = re.match(r"\[?([0-9,:-]+)", task)  # those that have not started: "1-9%2", say
    return f"{array_id}_[{waiting[1]}]" if waiting else job_id


def _parse_accounts(printed: str) -> list[Status]:
    found = []
    for line in printed.splitlines():
        fields = line.split("|")
        if len(fields) != 3:
            continue
        raw_state = fields[1].partition(" ")[0]  # CANCELLED by 1000
        state = _state(raw_state)
        reason = _ENDED.get(raw_state, "has ended") if state is State.ENDED else ""
        found.append(
            Status(fields[0], state, raw_state=raw_state, reason=reason, ends_at=_time(fields[2]))
        )
    return found


def _state(raw_state: str) -> State:
    if raw_state in _ENDED:
        return State.ENDED
    return State.QUEUED if raw_state in _QUEUED else State.RUNNING


def _cause(raw_state: str, reason: str) -> str:
    """Return the state that a job which is still ending will have."""
    return _CAUSES.get(reason, raw_state) if raw_state == "COMPLETING" else raw_state


def _reason(raw_state: str, reason: str) -> str:
    if raw_state in ("SUSPENDED", "STOPPED"):
        return "is suspended"
    return "" if reason in ("None", "(null)") else reason


def _time(printed: str) -> int | None:
    """Return Unix time: with SLURM_TIME_FORMAT=%s it is one; before 20.11 it may be a date."""
    if re.fullmatch(r"[0-9]{1,12}", printed):
        return int(printed) or None
    return parsing.moment(printed, "%Y-%m-%dT%H:%M:%S")


def script_command(job_id: str) -> list[str]:
    return ["scontrol", "write", "batch_script", job_id, "-"]


def parse_script(answer: CommandResult) -> str:
    return "" if answer.code else answer.stdout


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:
    # Without --unbuffered the ssh traffic stalls; without --chdir a home that the node lacks warns.
    # --mem=0: before 22.05 --overlap shares no memory, and the step that runs may have all of it.
    in_a_shell = ["sh", "-c", f"exec {' '.join(command)}"]
    options = ["--overlap", "--mem=0", "--unbuffered", "--quiet", "--ntasks=1", "--input=all"]
    return ["srun", *options, "--chdir=/", f"--jobid={job_id}", f"--nodelist={node}", *in_a_shell]


def cancel_command(job: Status) -> list[str]:
    if job.cancel_id is None:
        raise JlabError(
            f"Slurm does not say whether job {job.job_id} is one of an array",
            remedy="try again, or look at `squeue --me` and use `scancel`",
        )
    return ["scancel", job.cancel_id]


def extend_command(job_id: str) -> str:  # noqa: ARG001
    return ""  # only operators may


def directives(request: JobRequest) -> list[str]:
    asked = {
        "job-name": request.name,
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(request.cpus),
        "gpus": str(request.gpus or ""),
        "mem": f"{request.memory}M" if request.memory else "",
        "time": parsing.clock(request.walltime),
        "account": request.account,
        "partition": request.partition,
        "output": f"{request.log}-%j.log",
    }
    return [f"#SBATCH --{key}={value}" for key, value in asked.items() if value]
