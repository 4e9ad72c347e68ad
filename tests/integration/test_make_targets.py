"""The README's targets that wait for a person: `make psql` and `make dev`, as somebody at a terminal uses them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.operations.dev import free_port
from dagster_project.settings import Settings
from tests.integration.installation import Installation, installation

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with installation(server_settings, admin, tmp_path_factory.mktemp("make"), "make") as made:
        yield made


def test_make_psql_reads_what_is_typed(place: Installation) -> None:
    typed = "select current_user, 40 + 2 as answer;\nselect count(*) from bindery.loads;\n"
    done = subprocess.run(
        ["make", "psql"], cwd=ROOT, env=place.environment, input=typed, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "bindery_reader" in done.stdout, "a look has no right to change anything"
    assert "42" in done.stdout
    assert not done.stderr


@pytest.mark.soak
def test_make_dev_serves_the_ui_until_ctrl_c(place: Installation, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "dev", f"PORT={port}"],
            cwd=ROOT,
            env=place.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_ui(port, process, log)
    finally:
        # A terminal's Ctrl-C goes to make and to everything below it.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "a child outlived `make dev`"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert "Traceback" not in log.read_text()


def wait_for_ui(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=10) as answer:
                assert b"dagster_version" in answer.read()
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
