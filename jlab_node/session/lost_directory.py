"""What a session does about its directory while another user has it: JupyterLab does not go there.

The directory is looked after by directory_keeper.py, which says when it is lost and found again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ..errors import JlabError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from typing import Any, TypeVar

    from .directory_keeper import DirectoryKeeper
    from .jupyter.launch import RunningJupyter

    _T = TypeVar("_T")


@contextlib.asynccontextmanager
async def background_task(work: Coroutine[Any, Any, _T]) -> AsyncIterator[asyncio.Future[_T]]:
    """Begin the work now, and cancel it at the end; yield the future of what it returns."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def directory_kept(keeper: DirectoryKeeper) -> AsyncIterator[asyncio.Event]:
    """Keep the session's directory, from before JupyterLab starts to after its end.

    Yield an event: that the directory has been another user's.
    """
    lost = asyncio.Event()
    keeper.on_lost.append(lost.set)
    async with background_task(keeper.keep()):
        yield lost


async def started_unless(
    lost: asyncio.Event, starting: asyncio.Future[RunningJupyter]
) -> RunningJupyter:
    """Return JupyterLab once it has started; raises JlabError if others came in between."""
    async with background_task(lost.wait()) as waiting:
        either: set[asyncio.Future[Any]] = {starting, waiting}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if lost.is_set():
        raise JlabError("another user came in between while JupyterLab was starting: start again")
    return starting.result()


@contextlib.contextmanager
def suspended_while_lost(keeper: DirectoryKeeper, started: RunningJupyter) -> Iterator[None]:
    """Suspend JupyterLab while the session's directory is another user's: it would go there."""
    keeper.on_lost.append(started.suspend)
    keeper.on_restored.append(started.resume)
    try:
        yield
    finally:
        keeper.on_lost.remove(started.suspend)
        started.resume()
