"""The proxy between sockets: what reaches the engine, what comes back, what happens when a side misbehaves."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.execution.engine_proxy.__main__ import main, parse
from dagster_project.execution.engine_proxy.messages import MAX_BODY, MAX_HEAD
from dagster_project.execution.engine_proxy.policy import Port
from dagster_project.execution.engine_proxy.server import Limits, check, unreachable
from tests.unit import engine_proxy_attacks as attacks
from tests.unit import engine_proxy_oracle as oracle
from tests.unit.engine_proxy_world import bombard, world

QUICK = Limits(request=0.4, inspection=0.4, write=0.4, linger=0.05)


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


def said(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["message"])


def test_an_allowed_request_reaches_the_engine_by_id_and_its_answer_the_client(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            answer = await w.send(attacks.post("/v1.45/containers/mine/stop?t=5"))
            assert answer == (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nOK"
            )
            assert w.seen[0].startswith(b"GET /containers/mine/json HTTP/1.0\r\n")
            assert w.effects == [
                f"POST /v1.45/containers/{oracle.MINE}/stop?t=5 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
                "Content-Length: 0\r\n\r\n".encode()
            ]
            assert status(await w.send(attacks.post("/networks/net/connect", {"Container": "mine"}))) == 200
            assert json.loads(w.effects[-1].partition(b"\r\n\r\n")[2]) == {"Container": oracle.MINE}
            assert w.effects[-1].startswith(f"POST /networks/{oracle.NET}/connect ".encode())
            assert w.lines == []

    asyncio.run(story())


@pytest.mark.parametrize("name", ["theirs", "postgres", "bare", "odd"])
@pytest.mark.parametrize("action", ["json", "logs", "start", "stop", "kill", "wait"])
def test_nobody_elses_container_is_touched_not_even_a_service_of_ours(tmp_path: Path, name: str, action: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            method = "GET" if action in ("json", "logs") else "POST"
            raw = f"{method} /v1.45/containers/{name}/{action} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            answer = await w.send(raw.encode())
            assert status(answer) in (403, 502)
            assert w.effects == []
            assert len(w.lines) == 1

    asyncio.run(story())


def test_networks_of_others_are_refused_and_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            assert status(await w.send(attacks.get("/networks/bridge"))) == 403
            assert status(await w.send(attacks.post("/networks/bridge/connect", {"Container": "mine"}))) == 403
            assert status(await w.send(attacks.get("/containers/gone/json"))) == 404
            assert w.effects == []
            assert len(w.lines) == 2, "what is gone is asked after all the time: no line in the log"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /containers/mine/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: br\r\n\r\n", 400),
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 5\r\n\r\n", 400),
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n", 400),
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n", 400),
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n", 400),
        (b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 403),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\0\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n", 403),
        (b"GET /_ping\r\n\r\n", 403),
        (b"GET  /_ping HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"PUT /_ping HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"get /_ping HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://docker/_ping HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET //_ping HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /_ping/ HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /./_ping HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/mine/../../info HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/%2e%2e/info HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/%252e%252e/json HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/mine%2fjson HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/mine%00/json HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/mine/json#x HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /containers/mine/json?size=1&size=0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /containers/mine/json?size=1;a=b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /containers/mine/json?size=%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /containers/mine/json?size=%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /containers/mine/json?other=1 HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n", 403),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\r\n", 403),
        (b"POST /containers/create HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", 417),
        (b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(70)) + b"\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nA: " + b" " * 12_000 + b"\x01\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_goes_nowhere(tmp_path: Path, raw: bytes, expected: int) -> None:
    async def story() -> None:
        async with world(tmp_path, limits=Limits(linger=0.05)) as w:
            assert status(await w.send(raw)) == expected
            assert w.seen == []
            assert len(w.lines) == 1

    asyncio.run(story())


def test_a_second_request_on_a_connection_is_never_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            second = attacks.post("/containers/mine/kill")
            answer = await w.send(attacks.get("/_ping") + second)
            assert answer.count(b"HTTP/1.1") == 1
            # A body that isn't allowed doesn't become a request either.
            inner = b"POST /containers/mine/start HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(second)
            assert status(await w.send(inner + second)) == 403
            assert [message.split(b"\r\n")[0] for message in w.seen] == [b"GET /_ping HTTP/1.1"]

    asyncio.run(story())


def test_slow_and_half_clients_are_let_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, limits=QUICK) as w:
            assert status(await w.send(b"GET /_ping HTT")) == 408
            assert (
                status(await w.send(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"))
                == 408
            )
            assert status(await w.send(b"GET /_ping HTT", half_close=True)) == 400
            half = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"
            assert status(await w.send(half, half_close=True)) == 400
            assert await w.send(b"", half_close=True) == b"", "a probe that says nothing gets no answer and no line"
            assert w.seen == []
            assert len(w.lines) == 4

    asyncio.run(story())


def test_a_large_body_is_read_and_refused_in_words(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            body = {**oracle.creation(), "Unknown": "x" * (MAX_BODY - 4000)}
            answer = await w.send(attacks.post("/containers/create", body))
            assert status(answer) == 403
            assert "'Unknown' is no field" in said(answer)
            assert w.seen == []

    asyncio.run(story())


def test_connections_beyond_the_limit_are_told_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, limits=Limits(connections=2, linger=0.05)) as w:
            held = [await asyncio.open_connection("127.0.0.1", w.port) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert status(await w.send(attacks.get("/_ping"))) == 503
            for _, writer in held:
                writer.close()
            await asyncio.sleep(0.1)
            assert status(await w.send(attacks.get("/_ping"))) == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 2 * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_an_engine_that_answers_nonsense_is_a_bad_gateway(tmp_path: Path, answer: bytes) -> None:
    async def story() -> None:
        async with world(tmp_path, answer=answer) as w:
            assert status(await w.send(attacks.get("/_ping"))) == 502
            assert len(w.lines) == 1

    asyncio.run(story())


def test_an_engine_that_is_not_there_is_a_bad_gateway_in_words(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.proxy.upstream = tmp_path / "elsewhere.sock"
            for raw in (attacks.get("/_ping"), attacks.get("/containers/mine/json")):
                answer = await w.send(raw)
                assert status(answer) == 502
                assert "set DOCKER_SOCKET in .env" in said(answer)

    asyncio.run(story())


def test_chunks_flow_through_and_a_stream_ends_with_its_client(tmp_path: Path) -> None:
    async def story() -> None:
        path, ended = tmp_path / "stream.sock", asyncio.Event()

        async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await writer.drain()
            await reader.read()
            ended.set()
            writer.close()

        async with world(tmp_path, Port.SUPERVISE) as w:
            upstream = await asyncio.start_unix_server(engine, str(path))
            w.proxy.upstream = path
            reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
            writer.write(attacks.get("/events"))
            assert await reader.readuntil(b"first\r\n")
            assert not ended.is_set()
            writer.close()
            async with asyncio.timeout(5):
                await ended.wait()
            upstream.close()

    asyncio.run(story())


def test_a_client_that_does_not_read_holds_little_memory_and_not_for_ever(tmp_path: Path) -> None:
    async def story() -> None:
        path, sent, cut = tmp_path / "flood.sock", [0], asyncio.Event()

        async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    sent[0] += 65536
            except ConnectionError:
                cut.set()
            finally:
                writer.close()

        async with world(tmp_path, Port.SUPERVISE, QUICK) as w:
            upstream = await asyncio.start_unix_server(engine, str(path))
            w.proxy.upstream = path
            with socket.create_connection(("127.0.0.1", w.port)) as client:
                client.sendall(attacks.get("/events"))
                async with asyncio.timeout(10):
                    await cut.wait()
            upstream.close()
        # Kernel buffers of both sockets and a piece: nothing grows with what the engine has to say.
        assert sent[0] < 32 * 2**20

    asyncio.run(story())


def test_what_is_logged_is_one_line_without_bodies_or_queries(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            body = {**oracle.creation(), "Env": ["TOKEN=hush"], "Evil\nline": "hush"}
            await w.send(attacks.post("/containers/create?name=hush", body))
            body = {**oracle.creation(), "Env": ["TOKEN=hush"], "User": "hush"}
            await w.send(attacks.post("/containers/create", body))
            await w.send(attacks.get("/info?a=hush"))
            assert len(w.lines) == 3
            assert not any("hush" in line or "\n" in line for line in w.lines)

    asyncio.run(story())


def test_whatever_bytes_come_only_what_is_allowed_reaches_the_engine(tmp_path: Path) -> None:
    reached = bombard(tmp_path, rounds=20)
    assert reached > 20, "fuzzing that never reaches the engine shows nothing"


def test_the_socket_that_does_not_open_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.sock"
    assert "set DOCKER_SOCKET in .env" in str(check(missing))
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    assert "is it running on the host?" in str(check(dead))
    words = unreachable(dead, PermissionError(13, "Permission denied"))
    assert f"put DOCKER_GID={dead.stat().st_gid} into .env" in words
    assert main(["--project", "p", "--socket", str(missing), "--check"]) == 1
    assert "There is no Docker socket" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "live.sock"))
        bound.listen()
        assert main(["--project", "p", "--socket", str(tmp_path / "live.sock"), "--check"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--network", "host"],
        ["--network", "container:x"],
        ["--volume", "/etc"],
        ["--volume", "a:/b"],
        ["--image", "a b"],
        ["--image", ""],
    ],
)
def test_a_command_line_that_would_open_the_host_ends_the_program(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--project", "p", *arguments])
    with pytest.raises(SystemExit):
        parse([])


def test_what_holds_the_socket_loads_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import dagster_project.execution.engine_proxy.__main__\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(roots - sys.stdlib_module_names))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "['dagster_project']"
