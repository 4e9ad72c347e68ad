"""Passes TCP on port 2375 to the engine's socket, unfiltered; part of the stack that benchmarks make."""

from __future__ import annotations

import asyncio
import contextlib


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect one client with the engine."""
    theirs, ours = await asyncio.open_unix_connection("/var/run/docker.sock")
    await asyncio.gather(copy(reader, ours), copy(theirs, writer))
    for each in (ours, writer):
        each.close()


async def main() -> None:
    """Listen for ever."""
    async with await asyncio.start_server(serve, "0.0.0.0", 2375) as server:  # in a network of its own
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
