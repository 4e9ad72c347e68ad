"""Functions run in processes that may be killed: forked from one that has imported everything, so each costs little."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

IMPORTED = [
    "dagster_project.cli.main",
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
        code = _carry_out(target, request, os.environ, (log, log), seconds)
        return Ended(code, _text(log))


def bindery(words: Sequence[str], environment: Mapping[str, str], *, seconds: float) -> CompletedProcess[str]:
    """Carry out the command ``bindery`` without waiting a second for its imports.

    Not for what makes processes by ``multiprocessing`` itself (a run of the whole graph): they would be forked from
    here, with the wrong variables.

    Raises:
        TimeoutError: It didn't end in time; it is killed then.
    """
    with TemporaryDirectory() as folder:
        out, error = Path(folder) / "out", Path(folder) / "error"
        code = _carry_out(_bindery, {"words": list(words)}, environment, (out, error), seconds)
        return CompletedProcess(["bindery", *words], code or 0, _text(out), _text(error))


def _bindery(request: dict[str, Any]) -> None:
    from dagster_project.cli.main import main

    main(request["words"], prog_name="bindery")


def _text(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def _carry_out(
    target: Callable[[dict[str, Any]], None],
    request: dict[str, Any],
    environment: Mapping[str, str],
    logs: tuple[Path, Path],
    seconds: float,
) -> int | None:
    process = _context.Process(target=_child, args=(target, request, dict(environment), *map(str, logs)))
    process.start()
    process.join(seconds)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    code = process.exitcode
    process.close()
    if late:
        raise TimeoutError(f"not ended within {seconds} s: {_text(logs[0])}\n{_text(logs[1])}")
    return code


def _child(
    target: Callable[[dict[str, Any]], None],
    request: dict[str, Any],
    environment: Mapping[str, str],
    out: str,
    error: str,
) -> None:
    # The server was forked when the first test began: neither its variables nor its streams are this test's.
    os.environ.clear()
    os.environ.update(environment)
    for number, (stream, log) in enumerate(((sys.stdout, out), (sys.stderr, error)), 1):
        stream.flush()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    target(request)
