"""A scheduler's list of my jobs, and what it says of many records at once. Pure.

Records stay behind where jobs are killed without a warning. One question tells of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import process_id
from ..registry import records
from ..registry.clock_tolerance import FAR
from ..schedulers import local

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..registry.record import Record
    from ..registry.records import Published

_DAY = 86400  # seconds


@dataclass(frozen=True)
class Roll:
    """All the jobs of mine that have not ended, as one cluster had them at a moment."""

    scheduler: str
    cluster: str  # of local: the machine; "" where the scheduler has no name for it
    job_ids: frozenset[str]
    asked_at: float  # Unix time
    processes: frozenset[str] = frozenset()  # of local: the identities of those with these numbers

    def lists(self, record: Record) -> bool | None:
        """Whether the record's job is among them; None: it is none of this cluster's."""
        if not self._is_of(record):
            return None
        if record.process and self.scheduler == local.NAME:
            return record.process in self.processes
        return record.job_id in self.job_ids

    def _is_of(self, record: Record) -> bool:
        if self.scheduler == local.NAME:
            here = record.scheduler == local.NAME and record.node == self.cluster
            return here and not process_id.is_in_another_namespace(record.process)
        return record.is_of(self.scheduler, self.cluster)

    def is_over(self, record: Record) -> bool:
        """Whether the record's job has surely ended: enough to remove the record."""
        if self.lists(record) is not False or record.started is None:
            return False
        if record.started > self.asked_at - FAR:
            return False  # it may have been submitted since, and its node's clock be slow
        if self.scheduler == local.NAME or (self.cluster and record.cluster):
            return True
        # A job that is not listed may be that of another cluster which has this home.
        return record.ends_at is not None and record.ends_at < self.asked_at - _DAY


def sweep(published: Iterable[Published], rolls: Sequence[Roll]) -> None:
    """Remove the records, the newest first, of sessions that are over and were not withdrawn.

    Not the newest of a name: whoever connects to that is told how it ended.
    """
    seen: set[str] = set()
    for each in published:
        name = each.record.name
        if name in seen and any(roll.is_over(each.record) for roll in rolls):
            records.withdraw(each)
        seen.add(name)
