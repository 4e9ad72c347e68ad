"""What starter and server both need to know of each other: the code's version, and the socket between them."""

from __future__ import annotations

import socket
from hashlib import blake2b
from pathlib import Path


def code_version() -> str:
    """Return a hash of this package's code and data: a server that runs other code is restarted."""
    digest = blake2b(digest_size=8)
    package = Path(__file__).parent
    for path in sorted([*package.glob("*.py"), *package.glob("data/*.jsonl")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket, by default on loopback. Port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Without it a port whose last connections linger in TIME_WAIT is refused for a minute after a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener
