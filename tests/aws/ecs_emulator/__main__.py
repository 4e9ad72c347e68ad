"""The emulator as a process: moto's server, the metadata endpoint of tasks, and what a test may tell it.

usage: python -m tests.aws.ecs_emulator PARENT HOST PORT INSIDE BACKEND FOLDER
"""

from __future__ import annotations

import atexit
import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

from tests.aws.ecs_emulator.backends import Backend, Engine, Processes
from tests.aws.ecs_emulator.tasks import Emulator

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def control(emulator: Emulator, request: Request) -> dict[str, Any] | list[dict[str, Any]]:
    """Do what a test asks for."""
    word = request.path.removeprefix("/_emulator/")
    told: dict[str, Any] = json.loads(request.get_data() or b"{}")
    if word == "tasks":
        return emulator.told()
    if word == "requests":
        return emulator.requests
    if word == "interrupt":
        emulator.end(told["task"], "SpotInterruption", "Your Spot Task was interrupted.")
    elif word == "kill":
        emulator.signal(told["task"], int(told.get("signal", signal.SIGKILL)))
    elif word == "capacity":
        emulator.without_capacity[told["provider"]] = int(told["refusals"])
    elif word == "fumble":
        emulator.fumbles.append((told["kind"], told["reason"]))
    else:
        raise ValueError(word)
    return {}


def application(emulator: Emulator, moto: Wsgi) -> Wsgi:
    """Put our paths before moto's."""

    def serve(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith("/_emulator/"):
            return Response(json.dumps(control(emulator, Request(environ)), default=str))(environ, start)
        if path.startswith("/_ecs/v4/"):
            task, _, part = path.removeprefix("/_ecs/v4/").partition("/")
            return Response(json.dumps(emulator.metadata(task, part)), mimetype="application/json")(environ, start)
        return moto(environ, start)

    return serve


def main(arguments: list[str]) -> None:
    """Serve until whoever started this is gone."""
    parent, host, port, inside, kind, folder = arguments
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("whoever started this server is gone")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend: Backend = Processes(Path(folder)) if kind == "processes" else Engine(f"ecs-emulator-{port}")
    emulator = Emulator(backend, f"http://127.0.0.1:{port}", inside)
    emulator.install()
    atexit.register(emulator.kill_all)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    moto = DomainDispatcherApplication(create_backend_app)
    run_simple(host, int(port), application(emulator, moto), threaded=True)


if __name__ == "__main__":
    main(sys.argv[1:])
