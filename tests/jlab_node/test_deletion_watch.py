"""Waiting for something to be removed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from jlab_node.session.deletion_watch import DeletionWatch

if TYPE_CHECKING:
    from pathlib import Path


def test_wait_that_is_cancelled_as_something_is_removed_is_cancelled(tmp_path: Path) -> None:
    """That is how a session ends: it would look after its directory for ever."""

    async def is_lost(turns: int) -> bool:
        """Whether a cancellation so many turns of the loop after the removal is."""
        with contextlib.closing(DeletionWatch(tmp_path)) as deletions:
            deletions.watch()
            waiting = asyncio.ensure_future(deletions.wait(timeout=60))
            await asyncio.sleep(0)
            (tmp_path / "file").unlink()
            for _ in range(turns):
                await asyncio.sleep(0)
            if not waiting.cancel():
                return False
            await asyncio.wait([waiting])
            return not waiting.cancelled()

    lost = []
    for turns in range(8):
        (tmp_path / "file").touch()
        lost.append(asyncio.run(is_lost(turns)))
    assert not any(lost), lost
