"""The longest time that one answer may take, kept at the socket: every receive waits for what is left of it at most.

A time-out alone bounds the silence between two receives. A server that sends a byte now and then, of its status line,
its headers, its ``100 Continue``s, a chunk's extension or the trailers, would hold a reader for ever; here it is cut
off whatever it sends. What the bytes mean is read elsewhere (``http.client``, ``body``).
"""

from __future__ import annotations

import socket
import time
from functools import partial
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any, cast

from urllib3.connection import HTTPConnection


class DeadlinePassed(TimeoutError):
    """An answer took longer than it may, from the request to its last byte."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the answer took longer than {seconds:g} s (`deadline`)")


class TimedConnection(HTTPConnection):
    """A connection whose answers have a deadline, counted from the moment the request is sent."""

    seconds: float
    """Of each answer; set by the class that is made for a client."""

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request; the clock starts."""
        timed = partial(_TimedResponse, until=time.monotonic() + self.seconds, seconds=self.seconds)
        self.response_class = cast("type[HTTPResponse]", timed)
        super().request(*args, **options)


class _TimedResponse(HTTPResponse):
    """An answer that is received through a ``_TimedReader``."""

    def __init__(self, sock: socket.socket, *args: Any, until: float, seconds: float, **options: Any) -> None:
        # All that http.client does with the socket is to make a file of it.
        super().__init__(cast("socket.socket", _Timed(sock, until, seconds)), *args, **options)


class _Timed:
    """A socket, as far as an answer needs one."""

    def __init__(self, sock: socket.socket, until: float, seconds: float) -> None:
        self._sock = sock
        self._until = until
        self._seconds = seconds

    def makefile(self, _mode: str) -> BufferedReader:
        """Give the file to read from."""
        return BufferedReader(_TimedReader(self._sock, self._until, self._seconds))


class _TimedReader(RawIOBase):
    """Receives from a socket, plain or TLS, until a point in time."""

    def __init__(self, sock: socket.socket, until: float, seconds: float) -> None:
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open as long as it is read from
        self._sock = sock
        self._silence = sock.gettimeout()
        self._until = until
        self._seconds = seconds

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Receive once.

        Raises:
            DeadlinePassed: The time is up.
            TimeoutError: Nothing came for as long as the time-out says.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise DeadlinePassed(self._seconds)
        if self._silence is None or left < self._silence:
            self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() >= self._until:
                raise DeadlinePassed(self._seconds) from None
            raise

    def close(self) -> None:
        """Let go of the socket."""
        if not self.closed:
            self._raw.close()
        super().close()
