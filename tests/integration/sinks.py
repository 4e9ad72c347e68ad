"""Where alerts arrive in tests: a real HTTP server and a real mail server, both on loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Webhook:
    """What was posted, and how it is answered."""

    port: int = 0
    status: int = 200
    seconds: float = 0.0
    posts: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0

    def url(self, secret: str = "") -> str:
        return f"json://{secret}127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [post["title"] for post in self.posts]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run an HTTP server that takes webhooks."""
    told = Webhook()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.attempts += 1
            time.sleep(told.seconds)
            if told.status == 200:
                told.posts.append(json.loads(body))
            self.send_response(told.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    told.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mailbox:
    """The mails that came."""

    port: int = 0
    mails: list[Message] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - its name there
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        self.recipients += envelope.rcpt_tos
        return "250 OK"

    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}/?from=bindery@example.org&to=admin@example.org"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Run a mail server that keeps what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        box = Mailbox(probe.getsockname()[1])
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
