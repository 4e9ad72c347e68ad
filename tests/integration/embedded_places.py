"""Folders for embedded servers of their own, and starters in processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project import embedded
from dagster_project.embedded.home import Home
from dagster_project.settings import Settings

STARTER = """
import sys, time
from dagster_project.settings import Settings
from dagster_project.embedded import cluster, server
{patch}
info = server.start(Settings(data_dir=sys.argv[1]), durable=False)
print("up", info.pid, info.port, info.started, flush=True)
"""


@contextlib.contextmanager
def place(mode: int = 0o755, copy_of: Path | None = None) -> Iterator[Path]:
    """Give a data directory whose server is stopped and whose files are deleted at the end.

    It doesn't exist yet, or holds what the stopped server ``copy_of`` has: that costs a tenth of making a cluster.

    Not pytest's ``tmp_path``: that is under a folder which only its owner can enter, and as root the server runs as
    somebody else.
    """
    folder = Path(tempfile.mkdtemp(prefix="bindery-embedded-"))
    folder.chmod(mode)
    data_dir = folder / "data"
    elsewhere = Home(data_dir.resolve()).elsewhere
    try:
        if copy_of is not None:
            subprocess.run(["cp", "-a", str(copy_of), str(data_dir)], check=True)
            # The port goes to whichever copy asks first; each finds its own.
            (data_dir / "postgres" / "server.json").unlink()
        yield data_dir
    finally:
        with contextlib.suppress(embedded.EmbeddedError):
            embedded.stop(Settings(data_dir=data_dir))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(elsewhere, ignore_errors=True)


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """Data directory of a server that was made and stopped; tests work on copies."""
    with place() as data_dir:
        settings = Settings(data_dir=data_dir)
        embedded.start(settings, durable=False)
        embedded.stop(settings)
        yield data_dir


@pytest.fixture
def made(stopped: Path) -> Iterator[Settings]:
    """Settings of a server that is made and doesn't run."""
    with place(copy_of=stopped) as data_dir:
        yield Settings(data_dir=data_dir)


@pytest.fixture
def fresh() -> Iterator[Settings]:
    """Settings whose data directory doesn't exist yet."""
    with place() as data_dir:
        yield Settings(data_dir=data_dir)


def starter(data_dir: Path, patch: str = "") -> subprocess.Popen[str]:
    """Start a process that starts the server; ``patch`` is Python that it runs first."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTER.format(patch=patch), str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    """Wait for the process's next line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill -9, and check that this is what ended it."""
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


def kill_server(pid: int) -> None:
    """Kill -9 the server's main process and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else not alive(pid))


def alive(pid: int) -> bool:
    """Tell whether the system knows the pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: object, seconds: float = 20) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: It never does.
    """
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
