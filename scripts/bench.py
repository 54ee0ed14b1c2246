"""Time to a finished command: `ssh jlab+far true` against `ssh -J far near true`.

Both go through the same delaying relay to the same sshd, in turn, so that the machine's moods meet
both alike; what counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from loopback import Loopback, accepts, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def slow_road(listen: int, to: int, *, round_trip: float) -> Iterator[None]:
    """Relay a loopback port to another, delaying each way by half of `round_trip` seconds."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A chunk leaves its delay after it came, not after the one before it left.
        while data := await reader.read(1 << 18):
            loop.call_later(round_trip / 2, writer.write, data)
        loop.call_later(round_trip / 2, writer.close)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(one_way(reader, far_writer), one_way(far_reader, writer))

    async def end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    starting = asyncio.start_server(carry, "127.0.0.1", listen)
    asyncio.run_coroutine_threadsafe(starting, loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def seconds(command: list[str]) -> float:
    """Wall time of a command that has to succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def end_masters(site: Loopback) -> None:
    """So that the next connection is a first one."""
    for master in site.laptop.glob("jlab/login-*"):
        subprocess.run(
            site.ssh("-Oexit", f"-S{master}", "far"), check=False, stderr=subprocess.DEVNULL
        )


def compare(site: Loopback, rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of connection, taken in turn."""
    jump = site.ssh("-J", "far", "near", "true")
    ours = site.ssh("jlab+far", "true")
    taken: dict[str, list[float]] = {"ssh -J": [], "first": [], "second": []}
    for _ in range(rounds):
        taken["ssh -J"].append(seconds(jump))
        end_masters(site)
        taken["first"].append(seconds(ours))
        taken["second"].append(seconds(ours))
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--round-trip", type=float, nargs="+", default=[0, 50], metavar="MS")
    arguments = parser.parse_args()
    with Loopback("near") as site:
        session = site.start_session()
        site.wait_for_session(session)
        for milliseconds in arguments.round_trip:
            port = free_port()
            site.add_alias("far", port)
            with slow_road(port, site.port, round_trip=milliseconds / 1000):
                wait_until(lambda port=port: accepts(port), "the relay listens")
                setup = site.proxy("setup", "far", "--yes", "--port", str(free_port()))
                subprocess.run(setup, check=True, stdout=subprocess.DEVNULL)
                report(milliseconds, compare(site, arguments.rounds))
                end_masters(site)
    return 0


def report(milliseconds: float, taken: dict[str, list[float]]) -> None:
    base = statistics.median(taken["ssh -J"])
    print(f"\nround trip {milliseconds:g} ms, median of {len(taken['first'])} (min-max)")
    for what, values in taken.items():
        middle = statistics.median(values)
        print(
            f"  {what:8} {middle:6.3f} s  ({min(values):.3f}-{max(values):.3f})"
            f"  {middle / base:5.2f} of ssh -J"
        )


if __name__ == "__main__":
    sys.exit(main())
