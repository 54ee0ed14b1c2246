"""OAR 2.5: https://oar.readthedocs.io, and what oarstat and oarsh themselves do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import JlabError
from . import parsing
from .base import CommandResult, Job, JobRequest, Machine, State, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "oar"
DISPLAY_NAME = "OAR"
PROBE_PROGRAM = "oarstat"
JOB_ID = "OAR_JOB_ID"
SUBMIT_COMMAND = "chmod +x {0} && oarsub -S ./{0}"
SUBMIT_OUTPUT_RE = r"OAR_JOB_ID=([0-9]+)"
LOG_ONLY_AT_END = False
INTERACTIVE_COMMAND = "oarsub -I, then jlab-node run"
MEMORY_OPTION = ""
OPTION_VARIABLES = r"(?!)"  # none

_QUEUED = {"Waiting", "Hold", "toLaunch", "Launching", "toAckReservation"}
_ENDED = {"Terminated", "Error", "toError", "Finishing"}


def detect(env: Mapping[str, str], machine: Machine) -> Job | None:
    """Return the job whose list of nodes has this machine.

    The frontend's shell of a cosystem job is in no such list.
    """
    job_id = env.get(JOB_ID)
    if not job_id:
        return None
    nodes = dict.fromkeys(machine.read(env.get("OAR_NODEFILE", "")).split())
    node = next((each for each in nodes if machine.is_here(each)), None)
    if node is None:
        return None
    return Job(scheduler=NAME, job_id=job_id, cluster="", node=node, nodes=tuple(nodes))


def cluster_command() -> list[str]:
    return []


def parse_cluster(answer: CommandResult) -> str:  # noqa: ARG001
    return ""


def list_jobs_commands(user: str) -> list[list[str]]:
    return [["oarstat", "--full", "--json", "--user", user]]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    return None if answer.code else _parse(answer.stdout)


def job_status_commands(job_id: str) -> list[list[str]]:
    return [["oarstat", "--full", "--json", "--job", job_id]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    """Return the job; None: OAR forgets none, so that it is another cluster's."""
    found = _parse(answer.stdout) or []
    return next((status for status in found if status.job_id == job_id), None)


def _parse(printed: str) -> list[Status] | None:
    """Return all jobs in oarstat's JSON, which is nothing at all where there is no job."""
    if not printed.strip():
        return []
    try:
        found = json.loads(printed)
        return [_status(str(job_id), job) for job_id, job in found.items()]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _status(job_id: str, job: dict[str, Any]) -> Status:
    raw_state = str(job.get("state") or "")
    nodes = tuple(str(each) for each in job.get("assigned_network_address") or ())
    state, starts_at, ends_at, reason = State.RUNNING, _number(job.get("startTime")), None, ""
    if raw_state in _ENDED or _is_deleted(job):
        state, ends_at, reason = State.ENDED, _number(job.get("stopTime")), _end(job)
    elif raw_state in _QUEUED:
        state, reason = State.QUEUED, str(job.get("message") or "")
        starts_at = _number(job.get("scheduledStart"))
    elif raw_state in ("Suspended", "Resuming"):
        reason = "is suspended"
    walltime = _number(job.get("walltime"))
    if state is State.RUNNING and starts_at and walltime:
        ends_at = starts_at + walltime
    return Status(
        job_id=job_id,
        state=state,
        raw_state=raw_state,
        reason=reason,
        name=str(job.get("name") or ""),
        command=_command(str(job.get("command") or ""), _directory(job)),
        node=nodes[0] if nodes else "",
        nodes=nodes,
        owner=str(job.get("owner") or ""),
        starts_at=starts_at,
        ends_at=ends_at,
    )


def _end(job: dict[str, Any]) -> str:
    """Return how it ended, by its events and its exit code, which is that of wait(2)."""
    # oarwalltime leaves WALLTIME events too, and at the walltime a FRAG_JOB_REQUEST stands as well.
    if any("(Elapsed)" in str(event.get("description")) for event in _events(job)):
        return "reached its walltime"
    if any(event.get("type") == "BESTEFFORT_KILL" for event in _events(job)):
        return "was preempted"  # which deletes it as well
    if _is_deleted(job):
        return "was deleted"
    code = _number(job.get("exit_code"))
    if code is None and job.get("state") not in ("Error", "toError"):
        return "has finished"
    return f"failed with exit code {code >> 8}" if code and code >> 8 else "failed"


def _is_deleted(job: dict[str, Any]) -> bool:
    """Return whether the job is to be killed, which OAR takes some seconds for."""
    return any(event.get("type") == "FRAG_JOB_REQUEST" for event in _events(job))


def _events(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in job.get("events") or () if isinstance(each, dict)]


def _directory(job: dict[str, Any]) -> str:
    return str(job.get("launchingDirectory") or job.get("launching_directory") or "")  # OAR 3


def _command(command: str, directory: str) -> str:
    """Return the command, its first word with the directory that it is relative to."""
    if command.startswith("./") and directory:
        return f"{directory}/{command[2:]}"
    return command


def _number(value: object) -> int | None:
    return parsing.number(str(value)) or None


def script_command(job_id: str) -> list[str]:  # noqa: ARG001
    return []


def parse_script(answer: CommandResult) -> str:  # noqa: ARG001
    return ""


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:
    return ["env", f"OAR_JOB_ID={job_id}", "oarsh", node, *command]


def cancel_command(job: Status) -> list[str]:
    return ["oardel", job.job_id]


def extend_command(job_id: str) -> str:
    return f"oarwalltime {job_id} +1:00"


def directives(request: JobRequest) -> list[str]:
    if request.memory:
        raise JlabError(
            "OAR gives each core a share of the memory",
            remedy="leave out --mem and ask for enough --cpus, or choose nodes in the script by a "
            "property that your site has defined, `#OAR -p ...`",
        )
    # Sites with GPUs call that resource so, and a GPU brings its share of the cores.
    resources = f"/nodes=1/gpu={request.gpus}" if request.gpus else f"/nodes=1/core={request.cpus}"
    asked = [
        f"-n {request.name}",
        f"-l {resources},walltime={parsing.clock(request.walltime)}",
        f"--project {request.account}" if request.account else "",
        f"-q {request.partition}" if request.partition else "",
        f"-O {request.log}-%jobid%.log",
        f"-E {request.log}-%jobid%.log",
    ]
    return [f"#OAR {each}" for each in asked if each]
