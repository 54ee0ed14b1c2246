"""What this project needs to know of a job, and what a scheduler module offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jlab_node.record import Record


@dataclass(frozen=True)
class Job:
    """The job that this process runs in."""

    scheduler: str
    job_id: str
    cluster: str
    node: str  # the name by which the login node reaches this node
    ends_at: int | None = None  # Unix time, seconds


class Scheduler(Protocol):
    """What each module of this package defines."""

    NAME: str

    def detect(self, env: Mapping[str, str], *, host: str, pid: int) -> Job | None:
        """The job that `env` speaks of, if it is this scheduler's."""

    def ended(self, record: Record, *, host: str) -> str | None:
        """How the record's job ended, in words; None while it runs or where nobody can tell."""

    def cancel(self, record: Record, *, host: str) -> None:
        """End the record's job; raises JlabError."""
