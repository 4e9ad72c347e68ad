"""The emulator as tests see it: started and ended, and told what to do to tasks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aws.moto import START_SECONDS, Moto
from tests.run import ROOT


@dataclass(frozen=True)
class Ecs(Moto):
    """A running emulator: all of moto, and tasks that run."""

    def tell(self, word: str, **what: Any) -> Any:
        """Ask the emulator itself."""
        request = urllib.request.Request(f"{self.endpoint}/_emulator/{word}", json.dumps(what).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def started(self, **tags: str) -> list[dict[str, Any]]:
        """Tasks in the order of their start, those with all of the tags (``step`` means ``bindery.step``)."""
        wanted = {f"bindery.{key}": value for key, value in tags.items()}
        tasks: list[dict[str, Any]] = self.tell("tasks")
        return [task for task in tasks if wanted.items() <= task["tags"].items()]

    def interrupt(self, task: str) -> None:
        """Take the Spot capacity of a task back."""
        self.tell("interrupt", task=task)

    def kill(self, task: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a task's container, past ECS."""
        self.tell("kill", task=task, signal=int(number))

    def refuse(self, provider: str, times: int) -> None:
        """Have no capacity for the next requests."""
        self.tell("capacity", provider=provider, refusals=times)


@contextmanager
def emulator(folder: Path, backend: str = "processes") -> Iterator[Ecs]:
    """Run an emulator for the length of a block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    host, inside = "127.0.0.1", f"http://127.0.0.1:{port}"
    log = folder / f"ecs-{port}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    words = [str(os.getpid()), host, str(port), inside, backend, str(folder / "tasks")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.aws.ecs_emulator", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    found = Ecs(f"http://127.0.0.1:{port}", port)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                found.tell("tasks")
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text(errors="replace")[-3000:]
                assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
                time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
