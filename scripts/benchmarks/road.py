"""A road with a round trip: python road.py LISTEN HOST PORT MS, on the laptop, as its own program.

Relays a loopback port to HOST:PORT and delays each way by half of MS. Where kernels have no netem,
this is how to have a distance.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def carry_all(listen: int, host: str, port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()

    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A chunk leaves its delay after it came, not after the one before it left.
        while data := await reader.read(1 << 18):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(one_way(reader, far_writer), one_way(far_reader, writer))

    async with await asyncio.start_server(carry, "127.0.0.1", listen) as server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            carry_all(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 2000)
        )
