"""After the install nothing but this machine is contacted: the whole graph, with every other host out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.embedded_places import place
from tests.run import ROOT

BINDERY = Path(sys.executable).with_name("bindery")


def lines(log: Path, kind: str) -> list[list[str]]:
    return [fields for line in log.read_text().splitlines() if (fields := line.split("\t"))[0] == kind]


def fenced(log: Path, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # What the Makefile sets against telemetry is left out on purpose: the product has to be silent by itself.
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "LANG": "C.UTF-8", **variables}
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.isolated", str(log), *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
    assert len(lines(log, "refused")) == 1


def test_the_fence_lets_loopback_through(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import socket, threading; server = socket.create_server(('127.0.0.1', 0));"
        "threading.Thread(target=server.accept).start();"
        "socket.create_connection(('localhost', server.getsockname()[1]), timeout=5)"
    )
    result = fenced(log, sys.executable, "-c", program)
    assert result.returncode == 0, result.stdout
    assert not lines(log, "refused")


@pytest.mark.timeout(300)
def test_the_whole_run_contacts_nothing_but_this_machine(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = '"$0" run; code=$?; "$0" world stop; "$0" db stop; exit $code'

    with place() as data_dir:
        settings = {"BINDERY_DATA_DIR": str(data_dir), "BINDERY_DROP_DIR": str(tmp_path / "drop")}
        result = fenced(log, "/bin/sh", "-c", script, BINDERY, **settings)

    assert result.returncode == 0, result.stdout
    assert not lines(log, "refused"), "something tried to reach another machine"
    guarded = "\n".join(fields[2] for fields in lines(log, "guarded"))
    assert "bindery run" in guarded
    assert ".venv-dbt" in guarded, "dbt ran without the guard, so this test has shown nothing about it"
