"""The server process of the sample world: sockets, signals, detaching, and an end when nobody wants it any more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dagster_project.sample.app import App
from dagster_project.sample.endpoint import code_version
from dagster_project.sample.httpd import Connection
from dagster_project.sample.world import World

_SWEEP_SECONDS = 5.0


def serve(
    listener: socket.socket, world: World, instance: str, state_file: Path | None, on_ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, or until `state_file` is gone or names another instance.

    Args:
        listener: a listening socket; it is closed at the end.
        world: what is served.
        instance: a name for this server, in /healthz and in `state_file`.
        state_file: where the starter remembers the server; without one it runs until it is stopped.
        on_ready: called once the server answers.
    """
    identity = {"status": "ok", "instance": instance, "pid": os.getpid(), "version": code_version()}
    app = App(world, identity)
    asyncio.run(_serve(listener, app, instance, state_file, on_ready))


async def _serve(
    listener: socket.socket, app: App, instance: str, state_file: Path | None, on_ready: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(app.handle, connections), sock=listener)
    on_ready()
    while not end.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(end.wait(), _SWEEP_SECONDS)
        for connection in list(connections):
            connection.close_if_idle(loop.time())
        if state_file is not None and not _is_wanted(state_file, instance):
            print(f"{state_file} is gone or names another server: ending", file=sys.stderr)
            end.set()
    server.close()
    for connection in list(connections):
        connection.close()
    # What is written may still go out; a client that doesn't read must not keep the server (wait_closed would wait).
    await asyncio.sleep(0.05)
    for connection in list(connections):
        connection.abort()


def _is_wanted(state_file: Path, instance: str) -> bool:
    try:
        state: dict[str, Any] = json.loads(state_file.read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # unreadable for a moment is no reason to end
    return state.get("instance") == instance


def detach(log: Path) -> None:
    """Become a process of nobody's: the caller's pid ends here, the child goes on with its output in `log`.

    The child's pid is printed for the starter. So the server is never the starter's child, and never its zombie.
    """
    child = os.fork()
    if child:
        print(child, flush=True)
        os._exit(0)
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.close(null)
