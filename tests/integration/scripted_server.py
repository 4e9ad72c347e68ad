"""A server on loopback that writes to the socket what a test says, byte by byte: answers that no HTTP server gives.

For answers that are HTTP, however wrong, there is ``hostile_server``.
"""

from __future__ import annotations

import base64
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Script = Callable[["Line"], None]
# Of 127.0.0.1, until 2126, for tests alone: nobody trusts it.
_KEY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0eHAWBREwY+gaD2hwooSIruRDvrU"  # pragma: allowlist secret
    "S0cVDfVJIGxguFGhRANCAATAxnLqpI2+0gBqD3k+SsG5eFQZrCS09OtNcXhDPTf7ZyV9pA2LxSuv"  # pragma: allowlist secret
    "07n3sFHmHEf8xQw5yr7uB39M7i+zo6e6"  # pragma: allowlist secret
)
_CERTIFICATE = (
    "MIIBkDCCATagAwIBAgIUfI0DILikPhKSVarGSlLnwBD2YZ8wCgYIKoZIzj0EAwIwFDESMBAGA1UE"  # pragma: allowlist secret
    "AwwJMTI3LjAuMC4xMCAXDTI2MTEyMTA5MjA0OFoYDzIxMjYxMDI4MDkyMDQ4WjAUMRIwEAYDVQQD"  # pragma: allowlist secret
    "DAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATAxnLqpI2+0gBqD3k+SsG5eFQZ"  # pragma: allowlist secret
    "rCS09OtNcXhDPTf7ZyV9pA2LxSuv07n3sFHmHEf8xQw5yr7uB39M7i+zo6e6o2QwYjAdBgNVHQ4E"  # pragma: allowlist secret
    "FgQUcgqVEzExKqEb+0WQk3ftxwLGDOQwHwYDVR0jBBgwFoAUcgqVEzExKqEb+0WQk3ftxwLGDOQw"  # pragma: allowlist secret
    "DwYDVR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUCIDCOTBfQ"  # pragma: allowlist secret
    "cBzndGrRylNYWtZDPpJG2tszERR0twBYa1RDAiEAkeHchH+wxbIUK+vhGgYvmD5Aa5jnFyqZzb0J"  # pragma: allowlist secret
    "FngA8Zc="  # pragma: allowlist secret
)


class Line:
    """One connection, as a script sees it."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self.sock = sock
        self._closing = closing

    def request(self) -> bytes:
        """Read a request without a body; empty where the client has gone."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            block = self.sock.recv(65536)
            if not block:
                return b""
            data += block
        return data

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def trickle(self, data: bytes, pause: float = 0.05) -> None:
        """Send the same bytes again and again, with pauses, until the client goes or the test ends."""
        while not self._closing.wait(pause):
            self.sock.sendall(data)


class ScriptedServer:
    """Runs a script over each connection, until it is closed."""

    def __init__(self, script: Script, *, tls: bool = False, handshake: bool = True) -> None:
        self.connections = 0
        self._script = script
        self._context = _context() if tls else None
        self._handshake = handshake
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not on every system for a listener
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        sock.settimeout(30)
        try:
            with sock:
                if self._context is None or not self._handshake:
                    self._script(Line(sock, self._closing))
                    return
                with self._context.wrap_socket(sock, server_side=True) as wrapped:
                    self._script(Line(wrapped, self._closing))
        except OSError:
            pass  # the client went away, which is what it should do


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        for what, data in (("PRIVATE " + "KEY", _KEY), ("CERTIFICATE", _CERTIFICATE)):
            body = base64.encodebytes(base64.b64decode(data)).decode()
            file.write(f"-----BEGIN {what}-----\n{body}-----END {what}-----\n")
        file.flush()
        context.load_cert_chain(file.name)
    return context
