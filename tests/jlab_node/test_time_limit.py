"""A limit of seconds: what is awaited is returned, ended, or not waited for any longer."""

from __future__ import annotations

import asyncio

import pytest

from jlab_node.session.time_limit import within


def test_a_cancellation_that_comes_with_the_result_is_not_forgotten() -> None:
    async def session() -> None:
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        waiting = asyncio.ensure_future(within(60, result))
        await asyncio.sleep(0.01)
        result.set_result(None)
        loop.call_soon(waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(session())


def test_what_takes_longer_is_ended() -> None:
    async def session() -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, work())
        assert ended.is_set()

    asyncio.run(session())


def test_the_result_is_returned_and_a_failure_raised() -> None:
    async def session() -> None:
        assert await within(60, asyncio.sleep(0, "x")) == "x"
        with pytest.raises(ZeroDivisionError):
            await within(60, fails())

    async def fails() -> None:
        raise ZeroDivisionError

    asyncio.run(session())
