"""What the laptop asks `jlab-node connect` for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class ConnectRequest:
    """The session that is wanted, and how the laptop came to ask for it."""

    session: str | None  # None: the newest
    columns: int | None  # of the laptop's terminal; None: it has none
    may_submit: bool  # if the user has opted in
    unresponsive_record: str | None  # the file of a record whose node did not even refuse
    arguments: Sequence[str]  # as they came: the relay announces the session by them
    tagged: bool = False  # a program reads the status lines, and knows them by their tag
