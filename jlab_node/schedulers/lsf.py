"""IBM Spectrum LSF 10.1.0.2 or newer: its bjobs prints JSON.

From IBM's command reference (bjobs, bsub, bkill, blaunch) and "Environment variables set for job
execution"; printed JSON as in the tests of BatchEuphoria and in buildtest. Not yet tried.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from . import parsing
from .base import UNREADABLE, CommandResult, Job, JobRequest, Machine, State, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "lsf"
DISPLAY_NAME = "LSF"
PROBE_PROGRAM = "bjobs"
JOB_ID = "LSB_JOBID"
SUBMIT_COMMAND = "bsub < {}"
SUBMIT_OUTPUT_RE = r"Job <([0-9]+)> is submitted"
LOG_ONLY_AT_END = True
INTERACTIVE_COMMAND = "bsub -Is jlab-node run"
MEMORY_OPTION = "-M"
OPTION_VARIABLES = r"(?!)"  # none

_FIELDS = "jobid jobindex stat job_name exec_host pend_reason exit_reason exit_code start_time "
_FIELDS += "estimated_start_time finish_time command"
_ASK = ["bjobs", "-json", "-o", _FIELDS]

_QUEUED = {"PEND", "PSUSP", "PROV", "WAIT"}
_ENDED = {"DONE", "EXIT", "ZOMBI"}
# The TERM_ words of bacct(1) that exit_reason begins with.
_REASONS = {
    "TERM_RUNLIMIT": "reached its time limit",
    "TERM_DEADLINE": "reached its deadline",
    "TERM_MEMLIMIT": "ran out of memory",
    "TERM_SWAP": "ran out of memory",
    "TERM_PREEMPT": "was preempted",
    "TERM_OWNER": "was cancelled",
    "TERM_FORCE_OWNER": "was cancelled",
    "TERM_ADMIN": "was cancelled by an administrator",
    "TERM_FORCE_ADMIN": "was cancelled by an administrator",
}


def detect(env: Mapping[str, str], machine: Machine) -> Job | None:
    """Return the job that has this machine among its hosts."""
    number, index = env.get(JOB_ID, ""), env.get("LSB_JOBINDEX", "0")
    # LSB_HOSTS is left out when it would be too long; then there are pairs: "hostA 4 hostB 2".
    hosts = env.get("LSB_HOSTS", "").split() or env.get("LSB_MCPU_HOSTS", "").split()[::2]
    if not number:
        return None
    node = next((each for each in dict.fromkeys(hosts) if machine.is_here(each)), None)
    if node is None:
        return None
    cluster = env.get("LSB_EXEC_CLUSTER", "")
    return Job(scheduler=NAME, job_id=_job_id(number, index), cluster=cluster, node=node)


def _job_id(number: str, index: str) -> str:
    number = number.partition("[")[0]
    return f"{number}[{index}]" if parsing.number(index) else number


def cluster_command() -> list[str]:
    return ["lsid"]


def parse_cluster(answer: CommandResult) -> str:
    found = re.search(r"^My cluster name is (\S+)", answer.stdout, re.MULTILINE)
    return found[1] if found else ""


def list_jobs_commands(user: str) -> list[list[str]]:
    return [[*_ASK, "-u", user]]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    if re.search(r"No (unfinished )?job found", answer.stdout + answer.stderr):
        return []
    return None if answer.code else _parse(answer.stdout)


def job_status_commands(job_id: str) -> list[list[str]]:
    return [[*_ASK, "-a", job_id]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    found = _parse(answer.stdout) or []
    status = next((status for status in found if status.job_id == job_id), None)
    # In an hour LSF forgets a job that has ended.
    if status is None and f"<{job_id}> is not found" in answer.stdout + answer.stderr:
        return Status(job_id, State.ENDED, reason="has ended")
    return status


def _parse(printed: str) -> list[Status] | None:
    """Return the jobs of an answer, before which LSF may say that it cannot connect yet."""
    start = printed.find("{")
    try:
        found = json.JSONDecoder(strict=False).raw_decode(printed, max(start, 0))[0]["RECORDS"]
        return [each for each in map(_listed, found) if each]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _listed(job: dict[str, Any]) -> Status | None:
    """Return what one entry of a list says; None: that there is no such job."""
    if "ERROR" in job:
        return None if "not found" in str(job["ERROR"]) else UNREADABLE
    return _status(job)


def _status(job: dict[str, Any]) -> Status:
    def value(key: str) -> str:
        return str(job.get(key) or "")

    raw_state = value("STAT")
    state, reason = State.RUNNING, ""
    starts_at = _time(value("START_TIME"))
    if raw_state in _ENDED:
        state, reason = State.ENDED, _end(raw_state, value("EXIT_REASON"))
    elif raw_state in _QUEUED:
        state, reason = State.QUEUED, value("PEND_REASON").strip("; ")
        starts_at = _time(value("ESTIMATED_START_TIME"))
    elif raw_state in ("USUSP", "SSUSP"):
        reason = "is suspended"
    return Status(
        job_id=_job_id(value("JOBID"), value("JOBINDEX")),
        state=state,
        raw_state=raw_state,
        reason=reason,
        name=value("JOB_NAME"),
        command=_command(value("COMMAND")),
        # "hostA", "hostA:hostB" or "4*hostA:2*hostB"
        node=value("EXEC_HOST").split(":")[0].rpartition("*")[2],
        starts_at=starts_at,
        ends_at=_time(value("FINISH_TIME")),  # of a running job: by its limit
    )


def _command(text: str) -> str:
    """Return the command: a script that came by standard input has `;` for each end of a line."""
    return text.replace(";", "\n") if text.startswith("#") else text


def _end(raw_state: str, reason: str) -> str:
    if raw_state == "DONE":
        return "has finished"
    return _REASONS.get(reason.partition(":")[0].strip(), "failed")


def _time(printed: str) -> int | None:
    """Return Unix time from "Dec 28 19:56 L", where the letter says how exact it is.

    With no year it is the nearest.
    """
    found = re.fullmatch(
        r"([A-Z][a-z]{2}) +([0-9]{1,2}) ([0-9]{2}:[0-9]{2})(:[0-9]{2})?( [0-9]{4})?( [LEX])?",
        printed.strip(),
    )
    if not found:
        return None
    now = time.time()
    this = time.localtime(now).tm_year
    years = [found[5]] if found[5] else [str(this + each) for each in (-1, 0, 1)]
    rest = f"{found[1]} {found[2]} {found[3]}{found[4] or ':00'}"
    moments = [parsing.moment(f"{year.strip()} {rest}", "%Y %b %d %H:%M:%S") for year in years]
    return min((each for each in moments if each), key=lambda each: abs(each - now), default=None)


def script_command(job_id: str) -> list[str]:  # noqa: ARG001
    return []


def parse_script(answer: CommandResult) -> str:  # noqa: ARG001
    return ""


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:  # noqa: ARG001
    return []  # blaunch works only inside the job


def cancel_command(job: Status) -> list[str]:
    return ["bkill", job.job_id]


def extend_command(job_id: str) -> str:  # noqa: ARG001
    return ""  # bmod -W of a running job is the administrator's


def directives(request: JobRequest) -> list[str]:
    minutes = -(-request.walltime // 60)
    asked = [
        f"-J {request.name}",
        f"-n {request.cpus}",
        '-R "span[hosts=1]"',
        f"-gpu num={request.gpus}" if request.gpus else "",
        f'-R "rusage[mem={request.memory}MB]"' if request.memory else "",
        f"-W {minutes // 60}:{minutes % 60:02}",
        f"-P {request.account}" if request.account else "",
        f"-q {request.partition}" if request.partition else "",
        f"-o {request.log}-%J.log",
    ]
    return [f"#BSUB {each}" for each in asked if each]
