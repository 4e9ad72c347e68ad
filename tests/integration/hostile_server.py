"""An HTTP server on loopback that answers as a test says, misbehaviour included, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path alone."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The parameters."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def page(self) -> int:
        """The parameter ``page``; 1 without it."""
        return int(self.query.get("page", "1"))


@dataclass(slots=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """A ``Content-Length`` that isn't the body's."""
    framed: bool = True
    """Whether there is a ``Content-Length`` at all."""
    reset: bool = False
    """Whether the connection is reset after the body."""
    drip: float = 0.0
    """Seconds between two bytes of the body."""


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """Answer with JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, body, {"Content-Type": "application/json", **named})


Answering = Callable[[Asked], Reply]


class HostileServer:
    """Answers in threads until it is closed."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16
            timeout = 30

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = Asked(
                    self.command,
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length) if length else b"",
                )
                server.asked.append(asked)
                self._send(server.answer(asked))

            do_GET = do_HEAD = do_POST = _any

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.framed and "Transfer-Encoding" not in reply.headers:
                    length = len(reply.body) if reply.length is None else reply.length
                    self.send_header("Content-Length", str(length))
                broken = reply.reset or not reply.framed or reply.length is not None
                if broken:
                    self.close_connection = True
                self.end_headers()
                if self.command == "HEAD":
                    return
                if reply.drip:
                    self._drip(reply)
                    return
                self.wfile.write(reply.body)
                self.wfile.flush()
                if reply.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()

            def _drip(self, reply: Reply) -> None:
                self.close_connection = True
                for at in range(len(reply.body)):
                    try:
                        self.wfile.write(reply.body[at : at + 1])
                        self.wfile.flush()
                    except OSError:
                        return
                    if server.closing.wait(reply.drip):
                        return

            def finish(self) -> None:
                try:
                    super().finish()
                except OSError:
                    pass  # the client went away, or the test reset the connection

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing: broken connections are what this server is for."""

        self.closing = threading.Event()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.target for asked in self.asked]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def in_turn(*replies: Reply) -> Answering:
    """Give these answers one after another, then the last for ever."""
    left = list(replies)

    def answer(_: Asked) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer
