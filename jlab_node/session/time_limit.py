"""A limit to the seconds that something is awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

_T = TypeVar("_T")


async def within(seconds: float, awaited: Awaitable[_T]) -> _T:
    """Return what `awaited` returns; raises asyncio.TimeoutError after so many seconds.

    asyncio.wait_for forgets, before Python 3.12, a cancellation that comes together with the
    result: a session would go on then that was told to end.
    """
    future: asyncio.Future[Any] = asyncio.ensure_future(awaited)
    try:
        await asyncio.wait({future}, timeout=seconds)
        if future.done():
            return future.result()  # type: ignore[no-any-return]
        raise asyncio.TimeoutError
    finally:
        if future.cancel():
            await asyncio.wait({future})
