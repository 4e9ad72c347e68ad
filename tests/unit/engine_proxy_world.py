"""A proxy between a client that may send anything and an engine that writes down what reaches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.execution.engine_proxy.body import Ours
from dagster_project.execution.engine_proxy.policy import Port
from dagster_project.execution.engine_proxy.server import EngineProxy, Limits
from tests.unit import engine_proxy_attacks as attacks
from tests.unit import engine_proxy_oracle as oracle

OURS = Ours(oracle.PROJECT, frozenset(oracle.IMAGES), frozenset(oracle.NETWORKS), oracle.VOLUMES)
LABELS = {"bindery.project": oracle.PROJECT, "bindery.kind": "step"}
KNOWN = {
    "/containers/mine/json": {"Id": oracle.MINE, "Config": {"Labels": LABELS}},
    f"/containers/{oracle.MINE}/json": {"Id": oracle.MINE, "Config": {"Labels": LABELS}},
    "/containers/theirs/json": {
        "Id": oracle.THEIRS,
        "Config": {"Labels": {"bindery.project": "other", "bindery.kind": "run"}},
    },
    # A service of the same project has its label too, but is no run and no step.
    "/containers/postgres/json": {"Id": oracle.THEIRS, "Config": {"Labels": {"bindery.project": oracle.PROJECT}}},
    "/containers/bare/json": {"Id": oracle.THEIRS, "Config": {"Labels": None}},
    "/containers/odd/json": {"Id": "../../info", "Config": {"Labels": LABELS}},
    "/networks/net": {"Id": oracle.NET, "Name": "shelf-platform"},
    "/networks/bridge": {"Id": oracle.THEIRS, "Name": "bridge"},
}


@dataclass
class World:
    """Both sides of a proxy."""

    proxy: EngineProxy
    port: int
    seen: list[bytes] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def effects(self) -> list[bytes]:
        """What reached the engine beside the proxy's own questions."""
        return [message for message in self.seen if b" HTTP/1.0\r\n" not in message]

    async def send(self, raw: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes over a connection of their own; give the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(20):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def world(
    folder: Path, port: Port = Port.LAUNCH, limits: Limits | None = None, answer: bytes | None = None
) -> AsyncIterator[World]:
    """Start an engine that knows a few containers, and a proxy in front of it."""
    path = folder / "engine.sock"
    lines: list[str] = []
    proxy = EngineProxy(OURS, path, limits, lines.append)
    made = World(proxy, 0, lines=lines)

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            rest = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            made.seen.append(head + await reader.readexactly(int(rest or 0)))
            asked = head.split(b" ")[1].decode()
            if b" HTTP/1.0\r\n" in head:
                found = KNOWN.get(asked)
                status = b"200 OK" if found else b"404 Not Found"
                writer.write(b"HTTP/1.0 " + status + b"\r\n\r\n" + json.dumps(found or {"message": "none"}).encode())
            elif answer is not None:
                writer.write(answer)
            else:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\nContent-Type: text/plain\r\n\r\nOK"
                )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    upstream = await asyncio.start_unix_server(engine, str(path), limit=2**21)
    listening = await proxy.listen(port, 0, "127.0.0.1")
    made.port = int(listening.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        listening.close()
        upstream.close()
        # Connections that are being closed get their turn, so that none is left to the garbage collector.
        await asyncio.sleep(0.05)


ROUND = 25
"""Requests at once in a round of fuzzing."""


def bombard(folder: Path, rounds: int) -> int:
    """Send requests near allowed ones to both ports, and judge all that reaches the engine.

    Returns:
        How many messages reached it, without the proxy's own questions.
    """
    reached = 0
    limits = Limits(request=0.15, linger=0.02)

    @given(st.lists(attacks.raw_requests(), min_size=ROUND, max_size=ROUND), st.sampled_from(list(Port)))
    @settings(max_examples=rounds, deadline=None)
    def round_of(raws: list[bytes], port: Port) -> None:
        async def story() -> None:
            nonlocal reached
            async with world(folder, port, limits) as w:
                await asyncio.gather(*(w.send(raw) for raw in raws))
                for message in w.seen:
                    assert oracle.judge(message, port.value) == [], message
                reached += len(w.effects)

        asyncio.run(story())

    round_of()
    return reached
