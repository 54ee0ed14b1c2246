"""What a file system may hold up is done aside: a home that does not answer stops no session."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from .time_limit import within

if TYPE_CHECKING:
    from typing import Any, Callable

_T = TypeVar("_T")


class IoThread:
    """Makes calls one after the other, in a thread that nobody waits for at the end."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], concurrent.futures.Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], _T]) -> concurrent.futures.Future[_T]:
        """Make that call when those before it are through; return the future of what it returns."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._calls.put((call, future))
        return future

    async def run(self, call: Callable[[], _T], *, timeout: float) -> _T:
        """Make that call, and return what it returns.

        Raises what it raises, and asyncio.TimeoutError after `timeout` seconds.
        """
        return await within(timeout, asyncio.wrap_future(self.submit(call)))

    def flush(self, *, timeout: float) -> None:
        """Wait until all calls are through, but no longer than `timeout` seconds."""
        concurrent.futures.wait([self.submit(lambda: None)], timeout)

    def _work(self) -> None:
        while True:
            call, future = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
