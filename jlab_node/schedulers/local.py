"""No scheduler: a plain server, where the job is the `jlab-node run` process itself.

Only the machine that it runs on can tell of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import CommandResult, Job, JobRequest, Machine, State, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "local"
DISPLAY_NAME = "local"
PROBE_PROGRAM = "ps"
JOB_ID = ""
SUBMIT_COMMAND = "nohup {} &"
SUBMIT_OUTPUT_RE = r"(?!)"  # never
LOG_ONLY_AT_END = False
INTERACTIVE_COMMAND = "jlab-node run"
MEMORY_OPTION = ""
OPTION_VARIABLES = r"(?!)"  # none


def detect(env: Mapping[str, str], machine: Machine) -> Job:  # noqa: ARG001
    """Return the process itself: every process is a job here."""
    return Job(scheduler=NAME, job_id=str(machine.pid), cluster=machine.host, node=machine.host)


def cluster_command() -> list[str]:
    return []


def parse_cluster(answer: CommandResult) -> str:  # noqa: ARG001
    return ""


def list_jobs_commands(user: str) -> list[list[str]]:
    return [["ps", "-ww", "-u", user, "-o", "pid=,stat=,args="]]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    if answer.code:
        return None
    lines = (line.split(maxsplit=1) for line in answer.stdout.splitlines())
    return [_running(fields[0]) for fields in lines if len(fields) == 2 and _is_run(fields[1])]


def _running(job_id: str) -> Status:
    return Status(job_id, State.RUNNING)


def job_status_commands(job_id: str) -> list[list[str]]:
    return [["ps", "-ww", "-p", job_id, "-o", "stat=,args="]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    if answer.stderr:
        return None  # there is no ps, or not one that we know
    if _is_run(answer.stdout):
        return _running(job_id)
    return Status(job_id, State.ENDED, reason="has ended")


def _is_run(printed: str) -> bool:
    """Return whether the process is a `jlab-node run`: process numbers are used again.

    Not by its age: that moves when the clock is set.
    """
    state, *words = printed.split() or [""]
    ours = any(word.endswith(("jlab-node", "jlab_node")) for word in words)
    return not state.startswith("Z") and ours and "run" in words


def script_command(job_id: str) -> list[str]:  # noqa: ARG001
    return []


def parse_script(answer: CommandResult) -> str:  # noqa: ARG001
    return ""


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:  # noqa: ARG001
    return []


def cancel_command(job: Status) -> list[str]:
    return ["kill", job.job_id]


def extend_command(job_id: str) -> str:  # noqa: ARG001
    return ""


def directives(request: JobRequest) -> list[str]:  # noqa: ARG001
    return []
