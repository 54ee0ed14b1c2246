"""The laptop at the other end of stdin and stdout."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def client_disconnected(descriptors: Sequence[int] = (0, 1)) -> bool:
    """Return whether nobody holds the other ends of stdin and stdout any more; read no byte."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
