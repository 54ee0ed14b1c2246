"""JSON for laptops: one line, so that a reader can tell it from what a noisy .bashrc says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..registry import home
from ..runtime import runtime_directory
from ..version import VERSION

if TYPE_CHECKING:
    from ..registry.record import Record

FORMAT = 1
_PUBLIC_KEYS = (
    "id",
    "name",
    "scheduler",
    "job_id",
    "cluster",
    "node",
    "user",
    "started",
    "ends_at",
    "log",
    "version",
)


def print_json(value: dict[str, Any]) -> None:
    """Print the value on one line, with the number of its format and our version."""
    print(json.dumps({"format": FORMAT, "version": VERSION, **value}))


def public(record: Record) -> dict[str, Any]:
    """Return a record without what lets one in."""
    exposed = record.exposed.split(",") if record.exposed else []
    sockets = record.socket_dir or str(runtime_directory.locate({}, record.user or home.user()))
    known = {key: getattr(record, key) for key in _PUBLIC_KEYS}
    return {**known, "exposed": exposed, "socket_dir": sockets}
