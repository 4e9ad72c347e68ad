"""One answer takes no longer than the card's ``deadline``, whichever part of it a server sends slowly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dagster_project.ingest.cards.http import HttpOptions
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.message import RequestFailed
from tests.integration.scripted_server import Line, ScriptedServer

DEADLINE = 0.5
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SLOW = {
    "status line": (b"", b"H"),
    "header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "100 continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", b" "),
    "body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "chunk's size": (CHUNKED, b"0"),
    "chunk's extension": (CHUNKED + b"5;", b"a"),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-T: a\r\n"),
}
Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ScriptedServer] = []

    def start(script: Callable[[Line], None], **options: Any) -> ScriptedServer:
        servers.append(ScriptedServer(script, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def client(server: ScriptedServer, **options: Any) -> HttpClient:
    asked = {"timeout": 5, "deadline": DEADLINE, "verify_tls": False, **options}
    return HttpClient(HttpOptions.model_validate(asked), server.url, contact="mailto:me@example.org")


def cut_off(http: HttpClient, url: str) -> str:
    """Ask, and give the words with which it is cut off in time."""
    started = time.monotonic()
    with pytest.raises(RequestFailed) as caught:
        http.get(url)
    assert time.monotonic() - started < DEADLINE + 1.5
    assert caught.value.transient
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("part", SLOW)
def test_what_trickles_is_cut_off(serve: Serve, part: str, tls: bool) -> None:
    def script(line: Line) -> None:
        line.request()
        line.send(SLOW[part][0])
        line.trickle(SLOW[part][1])

    server = serve(script, tls=tls)
    with client(server) as http:
        words = cut_off(http, server.url)
    assert words == f"GET {server.url}: the answer took longer than 0.5 s (`deadline`), and isn't tried again"
    assert server.connections == 1


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_each_answer_of_a_connection_has_its_own_deadline(serve: Serve, tls: bool) -> None:
    def script(line: Line) -> None:
        for _ in range(4):
            line.request()
            time.sleep(DEADLINE / 2)
            line.send(FINE)
        line.request()
        line.trickle(b"H")

    server = serve(script, tls=tls)
    with client(server) as http:
        for _ in range(4):
            assert http.get(server.url).read() == b"{}"
        assert server.connections == 1, "the connection was kept"
        cut_off(http, server.url)


def test_a_redirect_leads_to_no_longer_wait(serve: Serve) -> None:
    def script(line: Line) -> None:
        if b"/slow" in line.request():
            line.trickle(b"H")
        line.send(b"HTTP/1.1 302 Found\r\nLocation: /slow\r\nContent-Length: 0\r\n\r\n")
        line.request()
        line.trickle(b"H")

    server = serve(script)
    with client(server) as http:
        cut_off(http, server.url + "/start")


def test_silence_is_still_bounded_by_the_timeout(serve: Serve) -> None:
    def script(line: Line) -> None:
        line.request()
        line.trickle(b"", pause=0.1)

    server = serve(script)
    with (
        client(server, timeout=0.2, deadline=30, http_retry={"attempts": 1}) as http,
        pytest.raises(RequestFailed, match="no answer: timed out after 1 tries"),
    ):
        http.get(server.url)


def test_a_tls_handshake_that_trickles_is_given_up(serve: Serve) -> None:
    server = serve(lambda line: line.trickle(b"\x16"), tls=True, handshake=False)
    started = time.monotonic()
    with (
        client(server, timeout=0.4, http_retry={"attempts": 1}) as http,
        pytest.raises(RequestFailed, match="no answer"),
    ):
        http.get(server.url)
    assert time.monotonic() - started < 2


def test_a_slow_answer_within_the_deadline_is_whole(serve: Serve) -> None:
    def script(line: Line) -> None:
        line.request()
        for byte in CHUNKED + b"2\r\n{}\r\n0\r\nX-T: a\r\n\r\n":
            line.send(bytes([byte]))
            time.sleep(0.001)

    server = serve(script)
    with client(server, deadline=20) as http:
        assert http.get(server.url).read() == b"{}"
