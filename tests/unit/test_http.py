"""The HTTP client against servers that misbehave: what is tried again, what is refused, what comes back."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from dagster_project.ingest.cards.http import HttpOptions
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.body import BodyTooLarge
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.message import Request, RequestFailed, retry_after, with_params
from dagster_project.ingest.fetch.report import StreamFetch
from tests.integration.hostile_server import Asked, HostileServer, Reply, in_turn, json_reply

Serve = Callable[[Any], HostileServer]
OK = json_reply({"fine": True})


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[HostileServer] = []

    def start(answer: Any) -> HostileServer:
        servers.append(HostileServer(answer if callable(answer) else in_turn(*answer)).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def client(server: HostileServer, **options: Any) -> HttpClient:
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        time.sleep(min(seconds, 0.01))

    made = HttpClient(HttpOptions.model_validate(options), server.url, contact="mailto:me@example.org", sleep=sleep)
    made.sleeps = sleeps  # type: ignore[attr-defined]
    return made


def test_an_answer_has_everything(serve: Serve) -> None:
    server = serve([json_reply({"a": 1}, ETag='"x"')])
    with client(server) as http:
        answer = http.get(f"{server.url}/books?page=1")
    assert (answer.status, answer.ok, answer.not_modified) == (200, True, False)
    assert (answer.read(), answer.size, answer.media_type) == (b'{"a": 1}', 8, "application/json")
    assert answer.headers["etag"] == '"x"'
    assert answer.url == f"{server.url}/books?page=1"
    assert answer.elapsed > 0
    sent = server.asked[0].headers
    assert sent["user-agent"].startswith("bindery/")
    assert sent["user-agent"].endswith(" (+mailto:me@example.org)")
    assert sent["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(serve: Serve, status: int) -> None:
    server = serve([Reply(status), Reply(status), OK])
    figures = StreamFetch()
    with client(server) as http:
        assert http.send(Request(server.url), figures=figures).status == 200
    assert (figures.requests, figures.retries) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 501])
def test_what_wont_pass_is_an_answer_at_once(serve: Serve, status: int) -> None:
    server = serve([Reply(status, b"because of that")])
    with client(server) as http:
        answer = http.get(server.url)
        refusal = http.refusal(answer)
    assert answer.status == status
    assert len(server.asked) == 1
    assert f"answered {status}" in str(refusal)
    assert "because of that" in str(refusal)


def test_a_failure_that_stays_says_what_and_how_often(serve: Serve) -> None:
    server = serve([Reply(503)])
    with client(server, http_retry={"attempts": 3}) as http, pytest.raises(RequestFailed) as caught:
        http.get(server.url + "/x")
    assert str(caught.value) == f"GET {server.url}/x: answered 503 after 3 tries"
    assert (caught.value.status, caught.value.transient, len(server.asked)) == (503, True, 3)


def test_pauses_are_jittered_and_grow(serve: Serve) -> None:
    server = serve([Reply(500)])
    with client(server, http_retry={"attempts": 6}) as http:
        with pytest.raises(RequestFailed):
            http.get(server.url)
        sleeps: list[float] = http.sleeps  # type: ignore[attr-defined]
    assert len(sleeps) == 5
    assert all(pause <= 0.5 * 2**n for n, pause in enumerate(sleeps))
    assert len(set(sleeps)) == 5


def test_the_retry_budget_is_of_the_whole_fetch(serve: Serve) -> None:
    server = serve([Reply(500)])
    with client(server, http_retry={"attempts": 3, "budget": 3}) as http:
        with pytest.raises(RequestFailed, match="after 3 tries"):
            http.get(server.url)
        with pytest.raises(RequestFailed, match=r"retry budget of this fetch \(3\) is spent"):
            http.get(server.url)
    assert len(server.asked) == 5


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_obeyed_and_never_early(serve: Serve, kind: str) -> None:
    times: list[datetime] = []
    until = datetime.now(UTC)

    def answer(_: Asked) -> Reply:
        nonlocal until
        times.append(datetime.now(UTC))
        if len(times) > 1:
            return OK
        until = times[0] + timedelta(seconds=1)
        date = format_datetime(until, usegmt=True)
        if kind == "date":
            until = until.replace(microsecond=0)
        return Reply(429, headers={"Retry-After": "1" if kind == "seconds" else date})

    server = serve(answer)
    with HttpClient(HttpOptions(), server.url, contact="me") as http:
        assert http.get(server.url).ok
    assert times[1] >= until


def test_a_date_is_measured_by_the_servers_own_clock() -> None:
    headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:05 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after(headers) == 5.0


def test_retry_after_holds_back_all_requests_to_the_host(serve: Serve) -> None:
    server = serve([Reply(429, headers={"Retry-After": "1"}), OK])
    with client(server) as http:
        http.get(server.url)
        sleeps: list[float] = http.sleeps  # type: ignore[attr-defined]
    assert sleeps[0] == 1.0
    assert sum(sleeps[1:]) >= 0.9, "the limiter holds too, for the other threads"


@pytest.mark.parametrize("status", [429, 503])
def test_a_longer_retry_after_ends_the_fetch_and_says_until_when(serve: Serve, status: int) -> None:
    server = serve([Reply(status, headers={"Retry-After": "3600"})])
    before = datetime.now(UTC)
    with client(server, http_retry={"max_wait": "1m"}) as http, pytest.raises(RequestFailed) as caught:
        http.get(server.url)
    assert len(server.asked) == 1
    assert caught.value.retry_at is not None
    assert timedelta(seconds=3599) < caught.value.retry_at - before < timedelta(seconds=3610)
    assert f"wait until {caught.value.retry_at:%Y-%m-%d %H:%M:%S} UTC" in str(caught.value)


def test_a_retry_after_that_says_nothing_is_ignored() -> None:
    assert retry_after({}) is None
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


@pytest.mark.parametrize(
    "said",
    ["9" * 20, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"],
    ids=["seconds", "more than a number holds", "date", "date past all"],
)
def test_a_retry_after_beyond_all_calendars_is_a_year(serve: Serve, said: str) -> None:
    server = serve([Reply(429, headers={"Retry-After": said})])
    with client(server) as http, pytest.raises(RequestFailed, match="asks to wait until") as caught:
        http.get(server.url)
    assert caught.value.retry_at is not None
    assert caught.value.retry_at.year <= datetime.now(UTC).year + 2


@pytest.mark.parametrize(
    "said", ["\xb2", "-5", "1e9", "Fri, 31 Dec 99999999999999999999 23:59:59 GMT", "Fri, 31 Dec 0"]
)
def test_a_retry_after_that_is_neither_number_nor_date_is_ignored(said: str) -> None:
    assert retry_after({"Retry-After": said}) is None


def test_a_post_is_not_repeated_unless_it_is_a_query(serve: Serve) -> None:
    server = serve([Reply(500), OK])
    with client(server) as http:
        with pytest.raises(RequestFailed, match="isn't tried again"):
            http.send(Request(server.url, "POST", json_body={"q": 1}))
        assert http.send(Request(server.url, "POST", json_body={"q": 2}, repeatable=True)).ok
    assert [asked.body for asked in server.asked] == [b'{"q": 1}', b'{"q": 2}']


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Reply(200, b'{"a": 1', reset=True, length=100), id="reset in the middle"),
        pytest.param(Reply(200, b'{"a": 1', length=100), id="shorter than said"),
        pytest.param(
            Reply(200, b'5\r\n{"a":\r\n', {"Transfer-Encoding": "chunked"}, length=0), id="chunks without an end"
        ),
        pytest.param(Reply(200, b'5\r\n{"a', {"Transfer-Encoding": "chunked"}, length=0), id="half a chunk"),
        pytest.param(Reply(200, gzip.compress(b"x" * 9999)[:-20], {"Content-Encoding": "gzip"}), id="half a gzip"),
        pytest.param(Reply(200, b"not gzip", {"Content-Encoding": "gzip"}), id="no gzip"),
    ],
)
def test_a_body_that_breaks_off_is_tried_again(serve: Serve, broken: Reply) -> None:
    server = serve([broken, OK])
    figures = StreamFetch()
    with client(server) as http:
        assert http.send(Request(server.url), figures=figures).read() == b'{"fine": true}'
    assert figures.retries == 1


def test_a_body_without_a_length_is_read_to_its_end(serve: Serve) -> None:
    server = serve([Reply(200, b"x" * 100_000, framed=False)])
    with client(server) as http:
        assert http.get(server.url).read() == b"x" * 100_000


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:])),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", bytes),
    ],
)
def test_compressed_answers_are_decompressed(serve: Serve, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    data = b"".join(b"%d " % n for n in range(200_000))
    server = serve([Reply(200, compress(data), {"Content-Encoding": encoding})])
    with client(server) as http:
        answer = http.get(server.url)
    assert answer.read() == data
    assert answer.size == len(data)


def test_a_large_body_waits_in_a_file(serve: Serve) -> None:
    data = bytes(range(256)) * 40_000
    server = serve([Reply(200, data)])
    with client(server) as http, http.get(server.url) as answer:
        assert answer.content == b""
        assert answer.file is not None
        body = answer.body()
        assert not isinstance(body, bytes)
        assert body.read(3) == data[:3]
        assert answer.read() == data
    assert answer.file.closed


def test_a_body_past_the_limit_is_refused(serve: Serve) -> None:
    server = serve([Reply(200, b"x" * 200_000, framed=False)])
    with client(server, max_body=100_000) as http, pytest.raises(BodyTooLarge, match=r"100000 bytes: raise `max_body`"):
        http.get(server.url)
    assert len(server.asked) == 1


def test_a_bomb_is_found_while_it_is_small(serve: Serve) -> None:
    server = serve([Reply(200, gzip.compress(bytes(30_000_000)), {"Content-Encoding": "gzip"})])
    with client(server) as http, pytest.raises(BodyTooLarge, match="bomb"):
        http.get(server.url)


def test_a_compression_nobody_asked_for_is_refused(serve: Serve) -> None:
    server = serve([Reply(200, b"...", {"Content-Encoding": "br"})])
    with client(server) as http, pytest.raises(SourceError, match="compressed as 'br'"):
        http.get(server.url)


def test_a_server_that_drips_is_given_up(serve: Serve) -> None:
    server = serve([Reply(200, b"x" * 1000, drip=0.05)])
    started = time.monotonic()
    with (
        client(server, deadline=0.4, http_retry={"attempts": 1}) as http,
        pytest.raises(RequestFailed, match=r"longer than 0\.4 s"),
    ):
        http.get(server.url)
    assert time.monotonic() - started < 3


def test_a_server_that_says_nothing_is_given_up(serve: Serve) -> None:
    waiting = threading.Event()

    def answer(_: Asked) -> Reply:
        waiting.wait(10)
        return OK

    server = serve(answer)
    with (
        client(server, timeout=0.2, http_retry={"attempts": 2}) as http,
        pytest.raises(RequestFailed, match=r"no answer: timed out after 2 tries"),
    ):
        http.get(server.url)
    waiting.set()


def test_nobody_listening_is_said_in_words(serve: Serve) -> None:
    server = serve([OK])
    url = server.url
    server.__exit__(None, None, None)
    with (
        client(server, http_retry={"attempts": 2}) as http,
        pytest.raises(RequestFailed, match=r"no answer: .*Connection refused after 2 tries"),
    ):
        http.get(url)


def test_a_host_that_stays_down_is_not_asked_any_more(serve: Serve) -> None:
    server = serve([Reply(500)])
    with client(server, http_retry={"attempts": 5, "budget": 1000}) as http:
        for _ in range(2):
            with pytest.raises(RequestFailed, match="answered 500"):
                http.get(server.url)
        with pytest.raises(RequestFailed, match="failed too often: it isn't asked for another 30 s"):
            http.get(server.url)
    assert len(server.asked) == 10


def test_conditional_requests(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        known = asked.headers.get("if-none-match") == '"1"' or "if-modified-since" in asked.headers
        return Reply(304, headers={"ETag": '"1"'}) if known else json_reply({}, ETag='"1"')

    server = serve(answer)
    with client(server) as http:
        assert http.get(server.url).status == 200
        again = http.get(server.url, etag='"1"')
        assert http.get(server.url, last_modified="Wed, 21 Oct 2015 07:28:00 GMT").not_modified
    assert (again.status, again.not_modified, again.read()) == (304, True, b"")


def test_cookies_are_kept_for_the_session(serve: Serve) -> None:
    server = serve([json_reply({}, Set_Cookie="session=abc; Path=/"), OK])
    with client(server) as http:
        http.get(server.url)
        http.get(server.url)
    assert "cookie" not in server.asked[0].headers
    assert server.asked[1].headers["cookie"] == "session=abc"


def test_the_pace_is_kept_over_threads(serve: Serve) -> None:
    times: list[float] = []

    def answer(_: Asked) -> Reply:
        times.append(time.monotonic())
        return OK

    server = serve(answer)
    with HttpClient(HttpOptions(), server.url, contact="me", interval=0.02) as http:
        threads = [threading.Thread(target=lambda: [http.get(server.url) for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(times) == 20
    assert max(times) - min(times) >= 19 * 0.02 - 0.02


def test_before_is_called_ahead_of_each_request(serve: Serve) -> None:
    server = serve([Reply(500), OK])
    asked_before: list[int] = []
    with HttpClient(
        HttpOptions(), server.url, contact="me", before=lambda: asked_before.append(len(server.asked))
    ) as http:
        http.get(server.url)
    assert asked_before == [0, 1]


def test_no_thread_and_no_connection_is_left(serve: Serve) -> None:
    server = serve([OK])
    before = threading.active_count()
    with client(server) as http:
        for _ in range(5):
            http.get(server.url)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the server's own thread ends when its connection does
    assert threading.active_count() <= before


def test_parameters_replace_those_of_the_url() -> None:
    assert with_params("http://h/p?a=1&b=%20x&a=2#f", {"a": "ä&", "c": ""}) == "http://h/p?b=%20x&a=%C3%A4%26&c=#f"
    assert with_params("http://h/p", {}) == "http://h/p"
