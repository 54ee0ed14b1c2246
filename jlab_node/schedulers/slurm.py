"""Slurm 20.11 or newer: https://slurm.schedmd.com/sbatch.html, squeue.html, srun.html."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import parsing
from .base import CommandResult, Job, JobRequest, Machine, State, Status

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

# The user's own settings for squeue must not change what it prints.
_ENV = ["env"]
for _name in ("STATES", "PARTITION", "ACCOUNT", "QOS", "NAMES", "USERS", "LICENSES"):
    _ENV += ["-u", f"SQUEUE_{_name}"]
_ENV += ["SLURM_TIME_FORMAT=%s"]
_SEPARATOR = "\x1f"
# id of the very job (of an array, the task), state, reason, start, end, nodes, name, command
_FORMAT = _SEPARATOR.join(["%A", "%T", "%r", "%S", "%e", "%N", "%j", "%o"])
_FIELDS = 8

_QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
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
    "SPECIAL_EXIT": "failed",
    "TIMEOUT": "reached its time limit",
}
_CAUSES = {"TimeLimit": "TIMEOUT", "NonZeroExitCode": "FAILED", "OutOfMemory": "OUT_OF_MEMORY"}


def detect(env: Mapping[str, str], machine: Machine) -> Job | None:
    """The job step or batch script that slurmd started here; not the shell of an salloc."""
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


def list_jobs_command(user: str) -> list[str]:
    return [*_ENV, "squeue", "--all", "--noheader", f"--user={user}", f"--format={_FORMAT}"]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    return None if answer.code else _parse(answer.stdout)


def job_status_commands(job_id: str) -> list[list[str]]:
    squeue = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", f"--format={_FORMAT}"]
    # What squeue has forgotten after some minutes, accounting may know.
    fields = "--format=JobIDRaw,State,End"
    sacct = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job_id}", fields]
    return [[*_ENV, *squeue], [*_ENV, *sacct]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    if answer.code:
        forgotten = "Invalid job id" in answer.stderr
        return Status(job_id, State.ENDED, reason="has ended") if forgotten else None
    found = [*_parse(answer.stdout), *_parse_accounts(answer.stdout)]
    return next((status for status in found if status.job_id == job_id), None)


def _parse(printed: str) -> list[Status]:
    found = []
    for line in printed.splitlines():
        fields = line.split(_SEPARATOR)
        if len(fields) != _FIELDS:
            continue
        job_id, raw_state, reason, start, end, node, name, command = fields
        state, cause = _state(raw_state), _cause(raw_state, reason)
        found.append(
            Status(
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
            )
        )
    return found


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
    """The state that a job which is still ending will have."""
    return _CAUSES.get(reason, raw_state) if raw_state == "COMPLETING" else raw_state


def _reason(raw_state: str, reason: str) -> str:
    if raw_state in ("SUSPENDED", "STOPPED"):
        return "is suspended"
    return "" if reason in ("None", "(null)") else reason


def _time(printed: str) -> int | None:
    """With SLURM_TIME_FORMAT=%s times are Unix times; before 20.11 they may not be."""
    if re.fullmatch(r"[0-9]{1,12}", printed):
        return int(printed) or None
    return parsing.moment(printed, "%Y-%m-%dT%H:%M:%S")


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:
    # Without --unbuffered the ssh traffic stalls; without --chdir a home that the node lacks warns.
    # --mem=0: before 22.05 --overlap shares no memory, and the step that runs may have all of it.
    in_a_shell = ["sh", "-c", f"exec {' '.join(command)}"]
    options = ["--overlap", "--mem=0", "--unbuffered", "--quiet", "--ntasks=1", "--input=all"]
    return ["srun", *options, "--chdir=/", f"--jobid={job_id}", f"--nodelist={node}", *in_a_shell]


def cancel_command(job_id: str) -> list[str]:
    return ["scancel", job_id]


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
