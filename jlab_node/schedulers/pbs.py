"""PBS Pro and OpenPBS 14 or newer, Torque where it is the same.

From the PBS Reference Guide 2021.1, qstat(1B) of both, and what PSI/J and AiiDA know of its errors;
printed JSON as in the manual of buildtest (PBS 19.0) and from MetaCentrum. Not yet tried.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from . import parsing
from .base import UNREADABLE, CommandResult, Job, JobRequest, Machine, State, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "pbs"
DISPLAY_NAME = "PBS"
PROBE_PROGRAM = "pbsnodes"  # Grid Engine has a qstat, too
JOB_ID = "PBS_JOBID"
SUBMIT_COMMAND = "qsub {}"
SUBMIT_OUTPUT_RE = r"(?m)^([0-9]+(?:\[[0-9]*\])?)\.[A-Za-z0-9]"
LOG_ONLY_AT_END = True
INTERACTIVE_COMMAND = "qsub -I, then jlab-node run"
MEMORY_OPTION = "-l mem"
OPTION_VARIABLES = r"(?!)"  # none

# qstat -f lists everybody's jobs, and takes no -u. Torque's knows no -F; and some versions print no
# JSON where a variable of a job has odd characters, or only the first of the jobs.
_SELECTED = "# selected:"
_LIST = """set -f
ids=$(qselect -u "$1") && { test -z "$ids" || { echo "%s" $ids; qstat -f $2 $ids; }; }"""

_QUEUED = set("QHWTM")
_ENDED = set("EFCX")
_KILLED = {-26: "ran out of memory", -27: "ran out of memory", -29: "reached its walltime"}  # job.h
_SIGNALLED = 256  # exit codes above: that plus the number of a signal


def detect(env: Mapping[str, str], machine: Machine) -> Job | None:
    """Return the job whose list of nodes has this machine: it is a file on the first of them."""
    job_id, _, server = env.get(JOB_ID, "").partition(".")
    if not job_id:
        return None
    nodes = dict.fromkeys(machine.read(env.get("PBS_NODEFILE", "")).split())
    node = next((each for each in nodes if machine.is_here(each)), None)
    if node is None:
        return None
    cluster = (server or env.get("PBS_SERVER", "")).partition(".")[0]
    return Job(scheduler=NAME, job_id=job_id, cluster=cluster, node=node)


def cluster_command() -> list[str]:
    return ["qstat", "-B", "-f"]


def parse_cluster(answer: CommandResult) -> str:
    """Return the server's name, which is also the second half of every job id."""
    found = re.search(r"^Server: ([A-Za-z0-9_-]+)", answer.stdout, re.MULTILINE)
    return found[1] if found else ""


def list_jobs_commands(user: str) -> list[list[str]]:
    script = _LIST % _SELECTED
    return [["sh", "-c", script, "sh", user, form] for form in ("-F json", "")]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    """Return the jobs: one that has ended meanwhile makes qstat fail, after all the others."""
    selected, printed = _selected(answer.stdout)
    found = _parse(printed)
    if found is None or (not found and answer.code and not _is_unknown(answer)):
        return None
    listed = {status.job_id for status in found}
    missing = [each for each in selected if each not in listed and not _names(answer.stderr, each)]
    alive = [status for status in found if status.state is not State.ENDED]
    return alive + [UNREADABLE for _ in missing]


def _selected(printed: str) -> tuple[list[str], str]:
    """Return the numbers of the jobs that were asked about, and what was said of them."""
    line, _, rest = printed.partition("\n")
    if not line.startswith(_SELECTED):
        return [], printed
    return [each.partition(".")[0] for each in line[len(_SELECTED) :].split()], rest


def job_status_commands(job_id: str) -> list[list[str]]:
    return [["qstat", "-x", "-f", "-F", "json", job_id], ["qstat", "-f", job_id]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    found = _parse(answer.stdout) or []
    status = next((status for status in found if status.job_id == job_id), None)
    if status is None and _is_unknown(answer):
        return Status(job_id, State.ENDED, reason="has ended")
    return status


def _names(said: str, job_id: str) -> bool:
    """Whether an error is about that job: it has ended meanwhile."""
    return bool(re.search(rf"(?<![0-9]){re.escape(job_id)}(?![0-9[])", said))


def _is_unknown(answer: CommandResult) -> bool:
    return bool(re.search(r"Unknown Job Id|Job has finished", answer.stderr))


def _parse(printed: str) -> list[Status] | None:
    printed = printed.lstrip()
    try:
        jobs = _json(printed) if printed.startswith("{") else _text(printed)
        return [_status(job_id.partition(".")[0], job) for job_id, job in jobs.items()]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _json(printed: str) -> dict[str, Any]:
    found = json.JSONDecoder(strict=False).raw_decode(printed)[0].get("Jobs", {})
    return {job_id: job for job_id, job in found.items() if "job_state" in job}


def _text(printed: str) -> dict[str, dict[str, Any]]:
    """Return the jobs of what Torque prints.

    Lines are `name = value`, indented by blanks; the rest of a long value is indented by a tab.
    """
    jobs: dict[str, dict[str, Any]] = {}
    job: dict[str, Any] = {}
    if printed and not printed.startswith("Job Id: "):
        raise ValueError("not what qstat -f prints")
    for line in printed.replace("\n\t", "").splitlines():
        key, equals, value = line.strip().partition(" = ")
        if line.startswith("Job Id: "):
            job = jobs.setdefault(line[len("Job Id: ") :].strip(), {})
        elif line.startswith("    ") and equals:
            outer, dot, inner = key.partition(".")
            into = job.setdefault(outer, {}) if dot else job
            into.setdefault(inner if dot else key, value)  # the first: a value may look like more
    return jobs


def _status(job_id: str, job: dict[str, Any]) -> Status:
    raw_state = str(job.get("job_state", ""))
    # Not `nodes`: here they are short, and in the job's own list they need not be.
    node = re.split(r"[/+:]", str(job.get("exec_host", "")))[0]
    limit = parsing.seconds(str(job.get("Resource_List", {}).get("walltime", "")))
    starts_at = _moment(job.get("stime") or job.get("start_time"))
    state, ends_at, reason = State.RUNNING, None, ""
    if raw_state in _ENDED:
        state, reason = State.ENDED, _end(job, limit)
        ends_at = _moment(job.get("history_timestamp") or job.get("comp_time"))
    elif raw_state in _QUEUED:
        state, reason = State.QUEUED, str(job.get("comment", "")).replace("Not Running: ", "")
        starts_at = _moment(job.get("estimated", {}).get("start_time"))
    else:
        ends_at = starts_at + limit if starts_at and limit else None
        reason = "is suspended" if raw_state in ("S", "U") else ""  # U: its owner is at the machine
    return Status(
        job_id=job_id,
        state=state,
        raw_state=raw_state,
        reason=reason,
        name=str(job.get("Job_Name", "")),
        command=_command(job),
        node=node,
        starts_at=starts_at,
        ends_at=ends_at,
    )


def _end(job: dict[str, Any], limit: int | None) -> str:
    used = parsing.seconds(str(job.get("resources_used", {}).get("walltime", "")))
    code = _number(job.get("Exit_status", job.get("exit_status")))
    if limit and used and used >= limit:
        return "reached its walltime"
    if code is None:
        return "has ended"
    if code in _KILLED:
        return _KILLED[code]
    if code > _SIGNALLED:
        return "was killed"
    return "failed" if code else "has finished"


def _command(job: dict[str, Any]) -> str:
    """Return the script, the last argument of qsub, with the directory that it is relative to."""
    arguments = str(job.get("Submit_arguments") or job.get("submit_args") or "").split()
    if not arguments or "-I" in arguments or "--" in arguments:
        return " ".join(arguments)
    variables = job.get("Variable_List")
    if isinstance(variables, dict):
        directory = str(variables.get("PBS_O_WORKDIR") or "")
    else:  # as text
        named = re.search(r"(?:^|,)PBS_O_WORKDIR=([^,]*)", str(variables))
        directory = named[1] if named else ""
    is_whole = arguments[-1].startswith("/") or not directory
    return arguments[-1] if is_whole else f"{directory}/{arguments[-1]}"


def _moment(value: object) -> int | None:
    """Return Unix time from that or from a date as asctime writes it."""
    return _number(value) or parsing.moment(str(value), "%a %b %d %H:%M:%S %Y")


def _number(value: object) -> int | None:
    return parsing.number(str(value))


def script_command(job_id: str) -> list[str]:  # noqa: ARG001
    return []


def parse_script(answer: CommandResult) -> str:  # noqa: ARG001
    return ""


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:  # noqa: ARG001
    return []  # pbsdsh passes nothing on to the command's stdin


def cancel_command(job: Status) -> list[str]:
    return ["qdel", job.job_id]


def extend_command(job_id: str) -> str:  # noqa: ARG001
    return ""  # qalter only shortens a running job


def directives(request: JobRequest) -> list[str]:
    chunk = f"select=1:ncpus={request.cpus}"
    chunk += f":ngpus={request.gpus}" if request.gpus else ""
    chunk += f":mem={request.memory}mb" if request.memory else ""
    asked = [
        f"-N {request.name}",
        "-S /bin/bash",
        f"-l {chunk}",  # Torque: nodes=1:ppn=N
        f"-l walltime={parsing.clock(request.walltime)}",
        f"-A {request.account}" if request.account else "",
        f"-q {request.partition}" if request.partition else "",
        "-j oe",
        # A directory: a file name could hold no job id. It fills when the job ends.
        f"-o {PurePosixPath(request.log).parent}/",
    ]
    return [f"#PBS {each}" for each in asked if each]
