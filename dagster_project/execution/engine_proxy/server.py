"""Sockets: reading a request within its limits, asking the engine whose container it is, passing the answer on.

One request a connection, both ways: framing can't be misread where nothing comes after. Answers flow through in pieces
with the reader's pace; neither side's silence holds more than its one connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from dagster_project.execution.engine_proxy.body import Ours
from dagster_project.execution.engine_proxy.messages import MAX_HEAD, Refused, Request, parse_head
from dagster_project.execution.engine_proxy.policy import Plan, Port, decide

PIECE = 64 * 1024
MAX_INSPECTION = 4 * 1024 * 1024
DENIED_PATH_SHOWN = 160
NO_ANSWER = "Docker closed the connection without an answer: look at its log on the host"
Answer = TypeVar("Answer")
_ID = re.compile(r"[0-9a-f]{64}")
_STATUS = re.compile(rb"HTTP/1\.1 ([2345][0-9]{2}) ")
_PASSED_ON = (
    b"api-version", b"builder-version", b"content-length", b"content-type", b"docker-experimental", b"ostype",
    b"server", b"transfer-encoding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and numbers. None for how long an answer takes: a wait or the events go on for days."""

    request: float = 15.0
    """For the whole request to arrive."""
    inspection: float = 30.0
    """For the engine to say whose a container is."""
    write: float = 120.0
    """For a client to take the next piece of an answer."""
    linger: float = 1.0
    """For a client to end its side after it was refused."""
    connections: int = 256


class EngineProxy:
    """Both ports, one engine.

    Args:
        ours: What belongs to us.
        upstream: The engine's socket.
        limits: Of time and number.
        log: Takes a line about what was refused or failed.
    """

    def __init__(
        self, ours: Ours, upstream: Path, limits: Limits | None = None, log: Callable[[str], None] | None = None
    ) -> None:
        self.ours = ours
        self.upstream = upstream
        self.limits = limits or Limits()
        self.log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        self._open = 0

    async def listen(self, port: Port, number: int, host: str | None = None) -> asyncio.Server:
        """Serve one port; 0 takes a free one, None every interface."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connection(port, reader, writer)

        return await asyncio.start_server(serve, host, number, limit=MAX_HEAD, backlog=128)

    async def _connection(self, port: Port, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        seen: list[Request] = []
        try:
            if self._open > self.limits.connections:
                raise Refused("too many connections at once: try again", HTTPStatus.SERVICE_UNAVAILABLE)
            # A client that vanished without a word is noticed, however long the answer takes.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await self._exchange(port, reader, writer, seen)
        except Refused as refused:
            # That something isn't there is no breach; clients ask after what has ended all the time.
            if refused.status is not HTTPStatus.NOT_FOUND:
                self._note(port, seen, refused)
            await self._answer(reader, writer, refused, bodiless=bool(seen) and seen[0].method == "HEAD")
        except (ConnectionError, TimeoutError):
            pass  # the client is gone, or takes nothing
        finally:
            self._open -= 1
            writer.close()

    async def _exchange(
        self, port: Port, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[Request]
    ) -> None:
        try:
            async with asyncio.timeout(self.limits.request):
                request = await _read_request(reader, seen)
        except TimeoutError:
            raise Refused("the request did not arrive in time", HTTPStatus.REQUEST_TIMEOUT) from None
        if request is None:
            return
        # A client that goes away takes its request with it: the engine stops waiting, following, listing.
        work = asyncio.ensure_future(self._forward(decide(port, request, self.ours), writer))
        gone = asyncio.ensure_future(_until_closed(reader))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _forward(self, plan: Plan, client: asyncio.StreamWriter) -> None:
        container = network = ""
        if plan.container is not None:
            container = await self._own_container(plan.container)
        if plan.network is not None:
            network = await self._own_network(plan.network)
        started = False

        async def pass_on(reader: asyncio.StreamReader) -> None:
            nonlocal started
            head = await _answer_head(reader)
            started = True
            client.write(head)
            while piece := await reader.read(PIECE):
                client.write(piece)
                async with asyncio.timeout(self.limits.write):
                    await client.drain()
            async with asyncio.timeout(self.limits.write):
                await client.drain()

        try:
            await self._ask(plan.message(container, network), pass_on)
        except ConnectionError:
            # Before the answer it is the engine's side that broke; after, there is no second answer to give.
            if started:
                raise
            raise Refused(NO_ANSWER, HTTPStatus.BAD_GATEWAY) from None

    async def _own_container(self, reference: str) -> str:
        found = await self._inspect(f"/containers/{reference}/json", "container")
        config = found.get("Config")
        if not self.ours.container(config.get("Labels") if isinstance(config, dict) else None):
            raise Refused(f"the container is no run or step of the project {self.ours.project}")
        return _identity(found)

    async def _own_network(self, reference: str) -> str:
        found = await self._inspect(f"/networks/{reference}", "network")
        if found.get("Name") not in self.ours.networks:
            raise Refused(f"networks are {', '.join(sorted(self.ours.networks))}")
        return _identity(found)

    async def _inspect(self, path: str, kind: str) -> dict[str, Any]:
        async def read(reader: asyncio.StreamReader) -> bytes:
            answer = await reader.read(MAX_INSPECTION + 1)
            while len(answer) <= MAX_INSPECTION and (piece := await reader.read(PIECE)):
                answer += piece
            return answer

        try:
            async with asyncio.timeout(self.limits.inspection):
                # HTTP/1.0: the answer ends with the connection, so there are no chunks to take apart.
                answer = await self._ask(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode("ascii"), read)
        except TimeoutError:
            raise Refused("Docker does not answer: look at it on the host", HTTPStatus.GATEWAY_TIMEOUT) from None
        except ConnectionError:
            raise Refused(NO_ANSWER, HTTPStatus.BAD_GATEWAY) from None
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if status == [b"404"]:
            raise Refused(f"No such {kind}", HTTPStatus.NOT_FOUND)
        try:
            found = json.loads(body) if status == [b"200"] else None
        except ValueError:
            found = None  # cut short, or above the limit
        if not isinstance(found, dict):
            raise Refused(f"Docker gave no readable description of the {kind}", HTTPStatus.BAD_GATEWAY)
        return found

    async def _ask(self, message: bytes, read: Callable[[asyncio.StreamReader], Awaitable[Answer]]) -> Answer:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.upstream), limit=MAX_HEAD)
        except OSError as error:
            raise Refused(unreachable(self.upstream, error), HTTPStatus.BAD_GATEWAY) from None
        try:
            writer.write(message)
            await writer.drain()
            return await read(reader)
        finally:
            writer.close()

    def _note(self, port: Port, seen: list[Request], refused: Refused) -> None:
        # Neither query nor body: filters and environments may be private.
        asked = f"{seen[0].method} {seen[0].path[:DENIED_PATH_SHOWN]}" if seen else "unreadable request"
        self.log(f"engine-proxy {port.value} {refused.status.value} {asked}: {refused.rule}")

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refused: Refused, *, bodiless: bool
    ) -> None:
        text = json.dumps({"message": f"engine proxy: {refused.rule}"}).encode("ascii")
        head = (
            f"HTTP/1.1 {refused.status.value} {refused.status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        )
        try:
            writer.write(head.encode("ascii") + (b"" if bodiless else text))
            writer.write_eof()
            # Closing over unread bytes would reset the connection, and the answer with it.
            async with asyncio.timeout(self.limits.linger):
                await _until_closed(reader)
        except (ConnectionError, TimeoutError):
            pass


async def _read_request(reader: asyncio.StreamReader, seen: list[Request]) -> Request | None:
    """Read one request; None where the client said nothing, as a probe does."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Refused("the request ends in its headers", HTTPStatus.BAD_REQUEST) from None
    except asyncio.LimitOverrunError:
        rule = f"request line and headers end within {MAX_HEAD} bytes"
        raise Refused(rule, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    request = parse_head(head)
    seen.append(request)
    try:
        return replace(request, body=await reader.readexactly(request.length))
    except asyncio.IncompleteReadError:
        raise Refused("the body is shorter than its Content-Length", HTTPStatus.BAD_REQUEST) from None


async def _until_closed(reader: asyncio.StreamReader) -> None:
    """Wait for the end of the client's side; what it still sends is no second request and goes nowhere."""
    try:
        while await reader.read(PIECE):
            pass
    except ConnectionError:
        pass


async def _answer_head(reader: asyncio.StreamReader) -> bytes:
    """Read the head of the engine's answer, and write the one for the client: what it needs, and that this is all."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        raise Refused(NO_ANSWER, HTTPStatus.BAD_GATEWAY) from None
    line, *headers = raw[:-4].split(b"\r\n")
    if _STATUS.match(line) is None:
        raise Refused("Docker's answer is none that this proxy passes on", HTTPStatus.BAD_GATEWAY)
    kept = [header for header in headers if header.partition(b":")[0].lower() in _PASSED_ON]
    return b"\r\n".join([line, *kept, b"Connection: close", b"", b""])


def _identity(found: dict[str, Any]) -> str:
    identity = found.get("Id")
    if not isinstance(identity, str) or _ID.fullmatch(identity) is None:
        raise Refused("Docker gave no id", HTTPStatus.BAD_GATEWAY)
    return identity


def unreachable(path: Path, error: OSError) -> str:
    """Say why the engine's socket can't be opened, and what to do."""
    if isinstance(error, PermissionError):
        try:
            group = path.stat().st_gid
        except OSError:
            return f"{path} is out of reach for this user (uid {os.getuid()})"
        return (
            f"The Docker socket belongs to group {group}, and this process (uid {os.getuid()}) is not in it: put "
            f"DOCKER_GID={group} into .env and run `docker compose up -d` again"
        )
    if isinstance(error, FileNotFoundError):
        return f"There is no Docker socket at {path}: set DOCKER_SOCKET in .env to where the host has it"
    return f"Docker does not answer at {path} ({error.strerror or type(error).__name__}): is it running on the host?"


def check(path: Path) -> str | None:
    """Try the engine's socket once; tell what is wrong, or None."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError as error:
            return unreachable(path, error)
    return None
