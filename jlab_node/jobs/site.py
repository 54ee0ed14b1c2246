"""The cluster that a machine belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..registry.record import Record
    from ..schedulers.base import Scheduler


@dataclass(frozen=True)
class Site:
    """The cluster that this machine belongs to, by the programs on PATH."""

    scheduler: Scheduler
    cluster: str  # "" where the scheduler has no name for it

    def has(self, record: Record) -> bool:
        """Return whether a record's job is one of this cluster: several may see the home."""
        return record.is_of(self.scheduler.NAME, self.cluster)
