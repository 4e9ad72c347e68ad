"""The safety net of the suite itself: no other machine is reached, and the caller's settings don't leak in."""

from __future__ import annotations

import os
import socket
import urllib.request

import pytest


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 80), ("10.0.0.1", 5432)])
def test_other_machines_are_refused(address: tuple[str, int]) -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match="only talk to this machine"):
        client.connect(address)
    with socket.socket() as client, pytest.raises(RuntimeError, match="only talk to this machine"):
        client.connect_ex(address)


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org"])
def test_libraries_are_refused_too(host: str) -> None:
    with pytest.raises(RuntimeError, match=f"reach {host}: .*only talk to this machine"):
        urllib.request.urlopen(f"http://{host}/", timeout=1)


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 5).close()


def test_the_callers_settings_are_gone() -> None:
    assert [name for name in os.environ if name.startswith(("BINDERY_", "PG"))] == ["BINDERY_ENV_FILE"]
    assert os.environ["BINDERY_ENV_FILE"] == ""
