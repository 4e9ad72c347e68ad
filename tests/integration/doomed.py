"""Functions run in processes that may be killed: forked from one that has imported everything, so each costs little."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

IMPORTED = [
    "dagster_project.ingest.pipeline",
    "tests.integration.load_process",
    "tests.integration.rest_fetcher_process",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), and what it wrote to both streams."""

    code: int | None
    told: str


def run(target: Callable[[dict[str, Any]], None], request: dict[str, Any], *, seconds: float = 60) -> Ended:
    """Call a function of a module in a process of its own, with this process's environment.

    Raises:
        TimeoutError: It didn't end in time; it is killed then.
    """
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = _context.Process(target=_child, args=(target, request, dict(os.environ), str(log)))
        process.start()
        process.join(seconds)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        told = log.read_text() if log.exists() else ""
    if late:
        raise TimeoutError(f"not ended within {seconds} s: {told}")
    return Ended(code, told)


def _child(
    target: Callable[[dict[str, Any]], None], request: dict[str, Any], environment: Mapping[str, str], log: str
) -> None:
    # The server was forked when the first test began: neither its variables nor its streams are this test's.
    os.environ.clear()
    os.environ.update(environment)
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    target(request)
