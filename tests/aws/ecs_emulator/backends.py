"""Where an emulated task's container really runs: as a process of this machine, or as a container of its engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.run import BIN, ROOT

Say = Callable[[str], None]
OUT_OF_MEMORY = 137


@dataclass(frozen=True)
class Spec:
    """What a task's container is started with, after definition and overrides were put together."""

    task: str
    family: str
    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    memory_mib: int
    cpu_units: int


@dataclass(frozen=True)
class End:
    """How a container ended."""

    code: int
    out_of_memory: bool = False


class Running(Protocol):
    """A container under way."""

    def poll(self) -> End | None:
        """Say how it ended, None while it runs."""
        ...

    def signal(self, number: int) -> None:
        """Send it a signal."""
        ...


class Backend(Protocol):
    """Starts containers."""

    def start(self, spec: Spec, say: Say) -> Running:
        """Start one; each line that it prints is said."""
        ...


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    limit: int
    reader: threading.Thread
    over: bool = False
    checked: float = field(default=0.0)

    def poll(self) -> End | None:
        code = self.process.poll()
        if code is None:
            self._keep_to_limit()
            return None
        self._signal_group(signal.SIGKILL)  # a container takes its children with it
        self.reader.join(timeout=5)
        return End(code if code >= 0 else 128 - code, self.over)

    def signal(self, number: int) -> None:
        if number == signal.SIGKILL:
            self._signal_group(number)
        elif self.process.poll() is None:
            self.process.send_signal(number)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _keep_to_limit(self) -> None:
        """End it as the kernel would: a limit of a control group needs rights that a test may not have."""
        now = time.monotonic()
        if now - self.checked < 0.2:
            return
        self.checked = now
        if _memory(self.process.pid, "statm") > self.limit and _memory(self.process.pid, "smaps_rollup") > self.limit:
            self.over = True
            self._signal_group(signal.SIGKILL)


def _memory(group: int, how: str) -> int:
    """Add up the memory of a process group: quickly (shared pages count for each process), or exactly."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            if os.getpgid(int(folder.name)) != group:
                continue
            text = (folder / how).read_text()
            if how == "statm":
                total += int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
            else:
                total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


@dataclass
class Processes:
    """Tasks as processes of this machine: the code is this checkout's, the image only a name."""

    folder: Path

    def start(self, spec: Spec, say: Say) -> Running:
        """Start one in a group of its own, with nothing in its environment but what the task has."""
        home = self.folder / spec.task
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{BIN}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONUNBUFFERED": "1",
            **spec.environment,
        }
        process = subprocess.Popen(
            list(spec.command),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        reader = threading.Thread(target=_read, args=(process, say), daemon=True)
        reader.start()
        return _Process(process, spec.memory_mib * 2**20, reader)


def _read(process: subprocess.Popen[bytes], say: Say) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        say(line.decode(errors="replace").rstrip("\n"))


@dataclass
class _Container:
    name: str
    reader: threading.Thread
    checked: float = field(default=0.0)

    def poll(self) -> End | None:
        now = time.monotonic()
        if now - self.checked < 0.5:
            return None
        self.checked = now
        told = _docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", self.name)
        if told.returncode != 0:
            return End(137)
        status, code, out_of_memory = told.stdout.split()
        if status not in {"exited", "dead"}:
            return None
        self.reader.join(timeout=5)
        _docker("rm", "-f", self.name)
        return End(int(code), out_of_memory == "true")

    def signal(self, number: int) -> None:
        _docker("kill", "--signal", str(int(number)), self.name)


@dataclass
class Engine:
    """Tasks as containers of the local Docker engine, from the images that they name.

    In this machine's own network: the emulator and the tests' Postgres listen at loopback alone.
    """

    prefix: str
    network: str = "host"

    def start(self, spec: Spec, say: Say) -> Running:
        """Start one with its memory as a limit."""
        name = f"{self.prefix}-{spec.task[:12]}"
        variables = [word for key, value in spec.environment.items() for word in ("-e", f"{key}={value}")]
        words = [
            *("create", "--name", name, "--network", self.network, "--label", f"ecs.emulator={self.prefix}"),
            *("--init", "--memory", f"{spec.memory_mib}m", "--memory-swap", f"{spec.memory_mib}m"),
            *variables,
            *(spec.image, *spec.command),
        ]
        made = _docker(*words)
        if made.returncode != 0:
            raise RuntimeError(made.stderr.strip())
        started = _docker("start", name)
        if started.returncode != 0:
            raise RuntimeError(started.stderr.strip())
        follower = subprocess.Popen(
            ["docker", "logs", "-f", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        reader = threading.Thread(target=_read, args=(follower, say), daemon=True)
        reader.start()
        return _Container(name, reader)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)
