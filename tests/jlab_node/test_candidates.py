"""Which records are tried: those of a list, without any file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jlab_node.connect import candidates
from jlab_node.registry.records import InvalidRecord, StoredRecord
from tests.jlab_node.conftest import JOB_12

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jlab_node.registry.record import Record


def published(token: str) -> StoredRecord:
    return StoredRecord(Path(token), replace(JOB_12, token=token))


def never(record: Record) -> bool:
    return False


def test_batches_are_read_only_as_far_as_they_are_taken() -> None:
    read = []

    def found() -> Iterator[StoredRecord]:
        for token in ("a", "b", "c"):
            read.append(token)
            yield published(token)

    batches = candidates.batches(found(), tried=set(), has_ended=never)
    assert next(batches).candidate == published("a")
    assert read == ["a"]
    assert [each.candidate for each in batches] == [published("b"), published("c"), None]


def test_batches_pass_over_what_was_tried_meanwhile() -> None:
    tried = {"a"}
    found = [published(token) for token in ("a", "b", "c", "d")]
    batches = candidates.batches(found, tried=tried, has_ended=never)
    assert next(batches).candidate == published("b")
    tried.add("c")
    assert next(batches).candidate == published("d")
    assert next(batches) == candidates.Batch(None, (), ())


def test_batches_have_the_ended_records_above_their_candidate() -> None:
    tokens = ("a", "b", "c", "d", "e")
    found = [published(token) for token in tokens]
    batches = candidates.batches(
        found, tried=set(), has_ended=lambda record: record.token in ("a", "b", "e")
    )
    assert list(batches) == [
        candidates.Batch(published("c"), (published("a"), published("b")), ()),
        candidates.Batch(published("d"), (), ()),
        candidates.Batch(None, (published("e"),), ()),
    ]


def test_batches_count_all_invalid_records_so_far() -> None:
    one, two = InvalidRecord(Path("1"), "it is empty"), InvalidRecord(Path("2"), "it is empty")
    batches = candidates.batches([one, published("a"), two], tried=set(), has_ended=never)
    assert [each.invalid for each in batches] == [(one,), (one, two)]
