"""A server that stands in for AWS: moto as a process of its own on a free port of this machine, spoken to over HTTP.

Its state begins anew with each test. What it lacks (tasks that run) is not added here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REGION = "eu-central-1"
ACCOUNT = "123456789012"
START_SECONDS = 60.0
# The server ends with whoever started it, however that went.
PROGRAM = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("whoever started this server is gone")
import logging
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import main
main(["-H", sys.argv[2], "-p", sys.argv[3]])
"""


@dataclass(frozen=True)
class Moto:
    """One running server."""

    endpoint: str
    port: int
    region: str = REGION
    account: str = ACCOUNT

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs so that boto3, however it is called, speaks to this server alone."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",  # pragma: allowlist secret
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "3",
        }

    def client(self, service: str, **options: Any) -> Any:
        """Make a client of one service."""
        import boto3

        session: Any = boto3.session.Session(
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # pragma: allowlist secret
            region_name=self.region,
        )
        return session.client(service, endpoint_url=self.endpoint, **options)

    def reset(self) -> None:
        """Forget everything."""
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass


def start_moto(folder: Path, host: str = "127.0.0.1") -> tuple[subprocess.Popen[bytes], Moto]:
    """Start a server; the caller ends the process.

    Args:
        folder: Where its log goes.
        host: Address that it listens at; ``0.0.0.0`` where containers shall reach it.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    log = folder / f"moto-{port}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(os.getpid()), host, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    found = Moto(f"http://127.0.0.1:{port}", port)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            found.reset()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
            continue
        return process, found
    process.kill()
    process.wait()
    raise AssertionError(f"moto's server didn't start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """The run's server. Tests take ``aws``, which begins anew."""
    process, found = start_moto(tmp_path_factory.mktemp("moto"))
    try:
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def aws(moto_server: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """An empty account, which boto3 finds in the environment of this process and of its children."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    moto_server.reset()
    return moto_server
