"""What this project needs to know of jobs, and what a scheduler module offers. Pure.

A module builds commands and parses what they print; it runs nothing. Commands are argument lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Callable


@dataclass(frozen=True)
class Machine:
    """What `detect` may look at beside the environment."""

    host: str  # its own name
    pid: int  # the process that asks
    is_here: Callable[[str], bool]  # whether a node of that name is this machine
    read: Callable[[str], str]  # text of a file; "" where it cannot be read


@dataclass(frozen=True)
class Job:
    """The job that a process runs in."""

    scheduler: str
    job_id: str
    cluster: str
    node: str  # the name by which login node and scheduler know this machine
    ends_at: int | None = None  # Unix times, seconds, by the scheduler's clock
    job_started: int | None = None
    nodes: tuple[str, ...] = ()  # all of them, where the environment lists them plainly


class State(Enum):
    """All that matters of the many states that schedulers know."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Status:
    """What a scheduler says of one job."""

    job_id: str
    state: State
    raw_state: str = ""  # the scheduler's own word for the state
    # What it waits for; how it ended, as in "job 12 reached its time limit"; why it stands still.
    reason: str = ""
    name: str = ""
    command: str = ""  # what was submitted: often the path of a script
    node: str = ""  # the first of its nodes
    nodes: tuple[str, ...] = ()  # all of them, where the scheduler lists them plainly
    owner: str = ""  # where the scheduler tells
    starts_at: int | None = None  # Unix time; an estimate while it is queued
    ends_at: int | None = None  # Unix time; the past for a job that has ended
    cancel_id: str | None = None  # by which it is cancelled, where that is another id and known


# In a list: a job of which too little could be read. It may be any of the user's.
UNREADABLE = Status("", State.RUNNING)


def is_complete(jobs: Iterable[Status] | None) -> bool:
    """Return whether a list has all jobs that there are: one that it has not has ended."""
    return jobs is not None and all(job.job_id for job in jobs)


@dataclass(frozen=True)
class CommandResult:
    """What a scheduler's command printed."""

    code: int
    stdout: str
    stderr: str = ""


@dataclass(frozen=True)
class JobRequest:
    """What a job script is to ask for; None and "" leave it to the site's default."""

    name: str
    cpus: int
    gpus: int
    memory: int | None  # megabytes
    walltime: int  # seconds
    account: str
    partition: str
    log: str  # path without its ending; may begin with ~ or $HOME nowhere


class Scheduler(Protocol):
    """What each module of this package defines."""

    NAME: str  # in records and on the command line
    DISPLAY_NAME: str  # in sentences
    PROBE_PROGRAM: str  # wherever jobs are submitted or run, this is on PATH
    JOB_ID: str  # the variable that holds a job's id, inherited or not
    SUBMIT_COMMAND: str  # what submits the script {}
    SUBMIT_OUTPUT_RE: str  # regular expression of what that prints; group 1 is the job's id
    LOG_ONLY_AT_END: bool  # what a job prints is out of reach until it ends
    INTERACTIVE_COMMAND: str  # what runs jlab-node in a job, typed outside of one
    MEMORY_OPTION: str  # what asks for more memory; "" where nothing does
    OPTION_VARIABLES: str  # regular expression of the variables that change what its commands do

    def detect(self, env: Mapping[str, str], machine: Machine) -> Job | None:
        """Return the job that `env` speaks of, if this machine is one of its nodes."""

    def cluster_command(self) -> list[str]:
        """Return the command that prints what names this cluster; [] where nothing does."""

    def parse_cluster(self, answer: CommandResult) -> str:
        """Return the cluster's name, as `detect` gives it in a job; "" where it cannot be told."""

    def list_jobs_commands(self, user: str) -> list[list[str]]:
        """Return commands that print a user's queued and running jobs.

        The next is run if what the last printed is not whole.
        """

    def parse_job_list(self, answer: CommandResult) -> list[Status] | None:
        """Return what one of these printed, with UNREADABLE for a job that could not be read.

        None: the scheduler does not answer.
        """

    def job_status_commands(self, job_id: str) -> list[list[str]]:
        """Return commands that print what is known of one job.

        The next is run when the last knew too little.
        """

    def parse_job_status(self, job_id: str, answer: CommandResult) -> Status | None:
        """Return what one of `job_status_commands` printed; None: it cannot tell."""

    def script_command(self, job_id: str) -> list[str]:
        """Return the command that prints the script of a job, or where it is.

        []: the list says so, or nothing can.
        """

    def parse_script(self, answer: CommandResult) -> str:
        """Return the text of the script, or its absolute path; "" where that is not known."""

    def run_in_job(self, job_id: str, node: str, command: list[str]) -> list[str]:
        """Return the command that runs `command` (as typed to a shell) on a node of the job.

        []: nothing can.
        """

    def cancel_command(self, job: Status) -> list[str]:
        """Return the command that ends a job, and no other.

        Raises JlabError where that needs an id that is not known.
        """

    def extend_command(self, job_id: str) -> str:
        """Return what its owner types for an hour more; "" where users cannot."""

    def directives(self, request: JobRequest) -> list[str]:
        """Return the lines of a job script that ask for this; raises JlabError if none can."""
