"""After the install nothing but this machine is contacted. What shows it is a fence; here it is seen to hold.

The whole graph runs inside of it in ``test_run_everything``.
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.integration.embedded_places import place
from tests.integration.installation import BINDERY, fence_log, fenced


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)",
        "import socket; socket.getaddrinfo('telemetry.example', 443)",
        "import urllib.request; urllib.request.urlopen('https://telemetry.example', timeout=5)",
    ],
)
def test_the_fence_holds(attempt: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert fenced(log, sys.executable, "-c", attempt).returncode != 0
    assert len(fence_log(log, "refused")) == 1


def test_the_fence_lets_loopback_through(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import socket, threading; server = socket.create_server(('127.0.0.1', 0));"
        "threading.Thread(target=server.accept).start();"
        "socket.create_connection(('localhost', server.getsockname()[1]), timeout=5)"
    )
    result = fenced(log, sys.executable, "-c", program)
    assert result.returncode == 0, result.stderr
    assert not fence_log(log, "refused")


def test_the_fence_has_one_door(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"come in")

        threading.Thread(target=greet, daemon=True).start()
        port = server.getsockname()[1]
        program = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), timeout=5).recv(7).decode())"
        through = fenced(log, sys.executable, "-c", program, door=port)
        assert through.stdout == "come in\n", through.stderr
        if "kernel" in fence_log(log, "fence")[0][2].split():
            aside = program.replace(str(port), str(other.getsockname()[1]))
            assert "refused" in fenced(log, sys.executable, "-c", aside, door=port).stderr


@pytest.mark.timeout(300)
def test_the_embedded_server_starts_inside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with place() as data_dir:
        result = fenced(log, "/bin/sh", "-c", '"$0" db start && "$0" db stop', BINDERY, BINDERY_DATA_DIR=str(data_dir))
    assert result.returncode == 0, result.stderr
    assert not fence_log(log, "refused"), "something tried to reach another machine"
