"""Calls that a file system holds up: those behind them wait, whoever made them need not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from jlab_node.session.io_thread import IoThread

if TYPE_CHECKING:
    from pathlib import Path


def test_io_thread_makes_calls_in_order() -> None:
    aside, gate = IoThread(), threading.Event()
    made: list[int] = []
    aside.submit(gate.wait)
    futures = [aside.submit(partial(made.append, number)) for number in range(5)]
    assert made == []
    gate.set()
    aside.flush(timeout=60)
    assert made == list(range(5))
    assert all(each.done() for each in futures)


def test_run_returns_and_raises_what_the_call_does() -> None:
    aside = IoThread()

    def fails() -> None:
        raise FileNotFoundError("gone")

    async def both() -> None:
        assert await aside.run(lambda: 42, timeout=60) == 42
        with pytest.raises(FileNotFoundError, match="gone"):
            await aside.run(fails, timeout=60)

    asyncio.run(both())


def test_cancelled_call_is_not_started() -> None:
    """What has begun cannot be undone; what has not is not begun any more."""
    aside, gate = IoThread(), threading.Event()
    made: list[str] = []
    aside.submit(gate.wait)

    async def too_long() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await aside.run(lambda: made.append("late"), timeout=0.1)

    asyncio.run(too_long())
    gate.set()
    aside.flush(timeout=60)
    assert made == []


STUCK = """
import asyncio, os, sys
from jlab_node.session.io_thread import IoThread
io = IoThread()

async def session():
    try:
        await io.run(lambda: open(sys.argv[1]), timeout=0.5)
    except asyncio.TimeoutError:
        return 3

code = asyncio.run(session())
io.flush(timeout=0.5)
sys.exit(code)
"""


def test_process_ends_although_a_call_hangs(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STUCK, fifo], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert time.monotonic() - began < 30
