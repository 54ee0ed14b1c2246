"""Grid Engine: SGE 6.2, Son of Grid Engine, Open and Univa/Altair Grid Engine.

From submit(1), qstat(1), qsub(1) and sge_pe(5) of Son of Grid Engine 8.1; printed XML as in the
tests of VM-MAD's ge_info and in grid-control. Not yet tried on a cluster.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import parsing
from .base import UNREADABLE, CommandResult, Job, JobRequest, Machine, State, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree import ElementTree

NAME = "sge"
DISPLAY_NAME = "Grid Engine"
PROBE_PROGRAM = "qconf"  # PBS has a qstat, too
JOB_ID = "JOB_ID"
SUBMIT_COMMAND = "qsub {}"
SUBMIT_OUTPUT_RE = r"Your job(?:-array)? ([0-9]+)"
LOG_ONLY_AT_END = False
INTERACTIVE_COMMAND = "qrsh jlab-node run"
MEMORY_OPTION = "-l h_vmem"
OPTION_VARIABLES = r"(?!)"  # none

_CLUSTER = 'cat "$SGE_ROOT/${SGE_CELL:-default}/common/cluster_name"'
_UNKNOWN = "Following jobs do not exist"


def detect(env: Mapping[str, str], machine: Machine) -> Job | None:
    """Return the job whose host this is.

    JOB_ID alone is anybody's: only in jobs are the others there.
    """
    number, task, root = (env.get(key, "") for key in (JOB_ID, "SGE_TASK_ID", "SGE_ROOT"))
    if not number.isdecimal() or not task or not root:
        return None
    listed = machine.read(env.get("PE_HOSTFILE", "")).splitlines()  # "node 4 all.q@node UNDEFINED"
    # HOSTNAME is the execution host's, as long as no login shell has set it anew.
    nodes = [line.split()[0] for line in listed if line.strip()] or [env.get("HOSTNAME", "")]
    node = next((each for each in nodes if each and machine.is_here(each)), None)
    if node is None:
        return None
    cluster = machine.read(f"{root}/{env.get('SGE_CELL', 'default')}/common/cluster_name").strip()
    return Job(scheduler=NAME, job_id=_job_id(number, task), cluster=cluster, node=node)


def _job_id(number: str, task: str) -> str:
    """Return the job's id; of an array the task's, as in 12.3.

    The task may also be "undefined", or what is still to come, as in 1-10:1.
    """
    return f"{number}.{task}" if task.isdecimal() else number


def cluster_command() -> list[str]:
    return ["sh", "-c", _CLUSTER]


def parse_cluster(answer: CommandResult) -> str:
    return "" if answer.code else answer.stdout.strip()


def list_jobs_commands(user: str) -> list[list[str]]:
    return [["qstat", "-xml", "-r", "-u", user]]


def parse_job_list(answer: CommandResult) -> list[Status] | None:
    found = None if answer.code else _parse(answer.stdout)
    return found and [status for status in found if status.state is not State.ENDED]


def job_status_commands(job_id: str) -> list[list[str]]:
    """Return commands about one's own jobs: qacct would read the accounts of years."""
    return [["qstat", "-xml", "-r"], ["qstat", "-j", job_id.partition(".")[0]]]


def parse_job_status(job_id: str, answer: CommandResult) -> Status | None:
    # At the beginning of a line, and not in XML: a job may be called so.
    plain = "" if "<job_info" in answer.stdout else answer.stdout
    if re.search(rf"(?m)^(error: )?{_UNKNOWN}", f"{answer.stderr}\n{plain}"):
        return Status(job_id, State.ENDED, reason="has ended")
    found = _parse(answer.stdout) or []
    return next((status for status in found if status.job_id == job_id), None)


def _parse(printed: str) -> list[Status] | None:
    """Return the jobs, one by one: a name that makes no XML does not hide the others."""
    from xml.etree import ElementTree  # every session would carry it, for Grid Engine's alone

    if "<job_info" not in printed or "<!" in printed:
        return None
    printed = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", printed)
    found = []
    for each in re.findall(r"<job_list\b.*?</job_list>", printed, re.DOTALL):
        try:
            job = ElementTree.fromstring(each)  # noqa: S314 (no entities: see above)
        except (ElementTree.ParseError, ValueError):
            found.append(UNREADABLE)
        else:
            found.append(_status(job))
    return found


def _status(job: ElementTree.Element) -> Status:
    def value(key: str) -> str:
        return (job.findtext(key) or "").strip()

    raw_state = value("state")
    state, reason = _state(raw_state)
    # Newer ones add fractions of a second.
    starts_at = parsing.moment(value("JAT_start_time")[:19], "%Y-%m-%dT%H:%M:%S")
    limit = parsing.number(job.findtext("hard_request[@name='h_rt']") or "")
    return Status(
        job_id=_job_id(value("JB_job_number"), value("tasks")),
        state=state,
        raw_state=raw_state,
        reason=reason,
        name=value("full_job_name") or value("JB_name"),
        node=value("queue_name").partition("@")[2],
        starts_at=starts_at,
        ends_at=starts_at + limit if starts_at and limit else None,
    )


def _state(raw_state: str) -> tuple[State, str]:
    """Return state and reason by the letters of qstat(1).

    E error, d deletion, h hold, q queued, w waiting, z finished; s, S, T (and N, P of Univa's)
    suspended.
    """
    if "d" in raw_state:
        return State.ENDED, "was deleted"
    if "z" in raw_state:
        return State.ENDED, "has finished"
    if "E" in raw_state:
        return State.QUEUED, "it could not be started, `qstat -j` says why"
    if "q" in raw_state or "w" in raw_state:
        return State.QUEUED, "on hold" if "h" in raw_state else ""
    return State.RUNNING, "is suspended" if set(raw_state) & set("sSTNP") else ""


def script_command(job_id: str) -> list[str]:
    return ["qstat", "-j", job_id.partition(".")[0]]


def parse_script(answer: CommandResult) -> str:
    found: dict[str, str] = dict(
        re.findall(r"(?m)^(script_file|sge_o_workdir): +(.*\S) *$", answer.stdout)
    )
    file = found.get("script_file", "")
    if not file or file.startswith("/"):
        return file
    return f"{found['sge_o_workdir']}/{file}" if "sge_o_workdir" in found else ""


def run_in_job(job_id: str, node: str, command: list[str]) -> list[str]:  # noqa: ARG001
    return []  # qrsh -inherit works only inside the job


def cancel_command(job: Status) -> list[str]:
    number, _, task = job.job_id.partition(".")
    return ["qdel", number, "-t", task] if task else ["qdel", number]


def extend_command(job_id: str) -> str:  # noqa: ARG001
    return ""  # a running job keeps its h_rt


def directives(request: JobRequest) -> list[str]:
    """Return the lines, with the usual names of what each site calls as it likes: slots, a GPU."""
    each_slot = -(-request.memory // max(request.cpus, 1)) if request.memory else 0
    asked = [
        f"-N {request.name}",
        "-S /bin/bash",
        f"-pe smp {request.cpus}" if request.cpus > 1 else "",  # the names: qconf -spl
        f"-l gpu={request.gpus}" if request.gpus else "",
        f"-l h_vmem={each_slot}M" if each_slot else "",
        f"-l h_rt={parsing.clock(request.walltime)}",
        f"-P {request.account}" if request.account else "",
        f"-q {request.partition}" if request.partition else "",
        "-j y",
        f"-o {request.log}-$JOB_ID.log",
    ]
    return [f"#$ {each}" for each in asked if each]
