"""A small HTTP/1.1 server on asyncio: framing, limits, keep-alive, conditional requests, gzip.

What the answers say is decided elsewhere (app.py).

The standard library's http.server costs a thread per connection and ten times the CPU, which a pipeline on two cores
feels. Only what a read-only site needs is here: GET, HEAD and OPTIONS; request bodies are refused.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from hashlib import blake2b
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

METHODS = ("GET", "HEAD", "OPTIONS")
MAX_HEAD = 32 * 1024
MAX_TARGET = 8 * 1024
_IDLE_SECONDS = 120.0
_LINGER_SECONDS = 1.0
_GZIP_FROM = 600
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?\Z|\[[0-9A-Fa-f:.]+\](:\d{1,5})?\Z")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A request whose head has been read."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The decoded path."""
        return unquote(self.target.partition("?")[0], errors="replace")

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def raw_query(self) -> str:
        """The query as it was sent."""
        return self.target.partition("?")[2]

    @property
    def origin(self) -> str:
        """Scheme and host as the client named them (checked when the head was read)."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"


@dataclass(slots=True)
class Response:
    """An answer; `finish` adds ETag, 304 and gzip, the connection length and date."""

    status: int
    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    last_modified: float | None = None
    """Seconds since the epoch."""
    delay: float = 0.0
    """Seconds to wait before sending."""


Handler = Callable[[Request], Response]


class _Refused(Exception):
    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


class Connection(asyncio.Protocol):
    """One client: requests are answered one after another, in their order."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._full = False
        self._ended = False
        self.last_seen = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client, and an answer that was still waiting for its time."""
        self._connections.discard(self)
        self._transport = None
        if self._pending is not None:
            self._pending.cancel()

    def pause_writing(self) -> None:
        """Stop answering while the client doesn't read."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._work()

    def data_received(self, data: bytes) -> None:
        """Read on; answer what is complete."""
        self.last_seen = self._loop.time()
        if not self._closing:
            self._buffer += data
            self._work()

    def eof_received(self) -> bool:
        """Answer what is under way to a client that has closed its own half, then close."""
        self._ended = True
        return self._pending is not None

    def close_if_idle(self, now: float) -> None:
        """Close when nothing has been heard for long."""
        if self._pending is None and now - self.last_seen > _IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """Close now; what was written is still sent."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection with whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _close_gently(self) -> None:
        """Say that nothing more comes, and let the client close.

        Closing a socket with unread input resets it, and a client that is still sending would lose the answer.
        """
        self._closing = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._loop.call_later(_LINGER_SECONDS, self.close)

    def _work(self) -> None:
        while self._pending is None and not self._closing and not self._full and self._buffer:
            while self._buffer.startswith(b"\r\n"):  # some clients end a request with one line too many
                del self._buffer[:2]
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                # A head can't be complete yet; one that never ends must not fill the memory.
                if len(self._buffer) > MAX_HEAD:
                    self._refuse(_Refused(431, "request head too large"))
                return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            try:
                if len(head) > MAX_HEAD:
                    raise _Refused(431, "request head too large")
                request, keep = _parse(head)
            except _Refused as refused:
                self._refuse(refused)
                return
            self._answer(request, keep)
        if len(self._buffer) > 4 * MAX_HEAD:
            self.close()  # a client that sends far ahead of the answers

    def _refuse(self, refused: _Refused) -> None:
        body = f"{refused.status} {_REASONS[refused.status]}: {refused}\n".encode()
        response = Response(refused.status, body, "text/plain; charset=utf-8", refused.headers)
        self._send(response, head_only=False, keep=False)

    def _answer(self, request: Request, keep: bool) -> None:
        try:
            response = self._handler(request)
        except Exception:  # noqa: BLE001 - one page's fault must not end the server; the log has the traceback
            traceback.print_exc(file=sys.stderr)
            response = Response(500, b"500 Internal Server Error\n", "text/plain; charset=utf-8")
        head_only = request.method == "HEAD"
        if response.delay > 0:
            self._pending = self._loop.call_later(response.delay, self._send_late, response, head_only, keep)
        else:
            self._send(response, head_only, keep)

    def _send_late(self, response: Response, head_only: bool, keep: bool) -> None:
        self._pending = None
        self._send(response, head_only, keep and not self._ended)
        self._work()

    def _send(self, response: Response, head_only: bool, keep: bool) -> None:
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {response.status} {_REASONS[response.status]}", f"Date: {formatdate(usegmt=True)}"]
        lines.append("Server: bindery-sample")
        if response.status not in (204, 304):
            lines += [f"Content-Type: {response.content_type}", f"Content-Length: {len(response.body)}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._transport.write(head if head_only or response.status in (204, 304) else head + response.body)
        if not keep:
            self._close_gently()


def _parse(head: bytes) -> tuple[Request, bool]:
    """Return the request and whether the connection stays open after it."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not _TOKEN.match(parts[0]):
        raise _Refused(400, "malformed request line")
    method, target, version = parts
    if not (target.isascii() and target.isprintable()):
        raise _Refused(400, "control characters and other than ASCII must be percent-encoded")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _Refused(505 if version.startswith("HTTP/") else 400, "HTTP/1.1 is spoken here")
    if len(target) > MAX_TARGET:
        raise _Refused(414, f"a URL may have {MAX_TARGET} characters")
    headers = _parse_headers(lines)
    if not _HOST.match(headers.get("host", "" if version == "HTTP/1.1" else "127.0.0.1")):
        raise _Refused(400, "missing or malformed Host")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        if method not in METHODS:
            raise _Refused(405, "this server only reads", Allow=", ".join(METHODS))
        raise _Refused(413, "this server takes no request bodies")
    if target.startswith("http://"):
        target = "/" + target[7:].partition("/")[2]
    elif not target.startswith("/") and target != "*":
        raise _Refused(400, "malformed request target")
    connection = headers.get("connection", "").lower()
    keep = "close" not in connection if version == "HTTP/1.1" else "keep-alive" in connection
    return Request(method, target, headers), keep


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.match(name):
            raise _Refused(400, "malformed header")
        key = name.lower()
        if key in headers and key in ("host", "content-length"):
            raise _Refused(400, f"header {key} is repeated")
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return headers


def finish(request: Request, response: Response) -> Response:
    """Return the answer with validators, as a 304 or gzipped where the request allows it. Handlers call it last."""
    if response.status != 200 or "Cache-Control" in response.headers:
        return response
    tag = f'"{blake2b(response.body, digest_size=12).hexdigest()}"'
    compress = len(response.body) >= _GZIP_FROM and response.content_type.startswith(("text/", "application/json"))
    if compress:
        response.headers["Vary"] = "Accept-Encoding"
    zipped = compress and _accepts_gzip(request.headers.get("accept-encoding", ""))
    response.headers["ETag"] = f"W/{tag}" if zipped else tag
    if response.last_modified is not None:
        response.headers["Last-Modified"] = formatdate(response.last_modified, usegmt=True)
    if _is_current(request, tag, response.last_modified):
        return Response(304, headers=response.headers, delay=response.delay)
    if zipped:
        response.body = gzip.compress(response.body, 3, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _accepts_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _is_current(request: Request, tag: str, last_modified: float | None) -> bool:
    """Tell whether the client's copy is current (RFC 9110, 13.2.2: If-None-Match goes before If-Modified-Since)."""
    if (known := request.headers.get("if-none-match")) is not None:
        return known.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in known.split(","))
    since = request.headers.get("if-modified-since")
    if since is None or last_modified is None:
        return False
    try:
        return parsedate_to_datetime(since).timestamp() >= int(last_modified)
    except ValueError:
        return False
