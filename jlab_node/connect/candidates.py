"""Which records are worth trying, and in which order. Nothing is removed or printed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry.records import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from ..registry.record import Record
    from ..registry.records import StoredRecord


@dataclass(frozen=True)
class Batch:
    """The records down to the next one that is worth trying."""

    candidate: StoredRecord | None  # None: there is no further one
    ended: tuple[StoredRecord, ...]  # above it: their jobs are known to have ended
    invalid: tuple[InvalidRecord, ...]  # all that were met so far, of earlier batches as well


def batches(
    found: Iterable[StoredRecord | InvalidRecord],
    *,
    tried: Container[str],
    has_ended: Callable[[Record], bool],
) -> Iterator[Batch]:
    """Sort out the records that were `found`, newest first; one batch for each candidate.

    Records whose tokens are in `tried` are passed over. A batch is made when it is taken, so that
    no record is read below the one that leads into a session, and `tried` and `has_ended` may
    change between two batches. The last batch has no candidate.
    """
    ended: list[StoredRecord] = []
    invalid: list[InvalidRecord] = []
    for each in found:
        if isinstance(each, InvalidRecord):
            invalid.append(each)
        elif each.record.token in tried:
            continue
        elif has_ended(each.record):
            ended.append(each)
        else:
            yield Batch(each, tuple(ended), tuple(invalid))
            ended = []
    yield Batch(None, tuple(ended), tuple(invalid))
