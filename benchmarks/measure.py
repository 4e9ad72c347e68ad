"""How every figure is taken: whole processes, medians of repeats, memory of the process tree, and what machine it was.

Knows nothing of what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What a call of the benchmarks asks for."""

    scale: float = 1.0
    """Factor of every input's size; 1 is what the documented figures are of."""
    repeat: int = 3
    real_data: Path | None = None
    """Folder with data nobody here made, used where a program knows it."""

    def size(self, rows: int) -> int:
        """Give the number of rows at this scale, never fewer than 100."""
        return max(100, round(rows * self.scale))


@dataclass(slots=True)
class Figure:
    """One line of the result: the repeats of one thing, and how many rows each had."""

    program: str
    name: str
    seconds: list[float] = field(default_factory=list)
    rows: int | None = None
    peak_bytes: int | None = None
    """Most that any repeat took, of the process tree without Postgres; None where it isn't measured."""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def add(self, run: Run) -> None:
        """Take in one repeat."""
        self.seconds.append(run.seconds)
        if run.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, run.peak_bytes)

    def document(self) -> dict[str, Any]:
        """Give the figure for machines."""
        rate = round(self.rows / self.median) if self.rows else None
        return {**asdict(self), "median_seconds": round(self.median, 3), "rows_per_second": rate}

    def line(self) -> str:
        """Give the figure for people."""
        rate = f"{self.rows / self.median:>11,.0f} rows/s" if self.rows else " " * 18
        peak = f"{self.peak_bytes / 2**20:>6.0f} MiB" if self.peak_bytes else " " * 10
        spread = f"{min(self.seconds):.2f}-{max(self.seconds):.2f}" if len(self.seconds) > 1 else ""
        notes = ", ".join(f"{name} {value}" for name, value in self.notes.items())
        return f"{self.name:<40} {self.median:>8.2f} s {spread:>13} {rate} {peak}  {notes}".rstrip()


@dataclass(frozen=True, slots=True)
class Run:
    """One process, from its start to its exit."""

    seconds: float
    peak_bytes: int | None
    output: str


def timed(
    command: Sequence[str], environment: Mapping[str, str] | None = None, stdin: str | None = None, watch: bool = True
) -> Run:
    """Run a program to its end.

    Raises:
        SystemExit: It failed; a figure of something that failed is none.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    peak = Peak(process.pid) if watch else None
    try:
        output, errors = process.communicate(stdin)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    seconds = time.perf_counter() - began
    peak_bytes = peak.stop() if peak else None
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{errors[-3000:]}")
    return Run(seconds, peak_bytes, output)


class Peak:
    """Watches the memory of a process and of all below it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, sum(memory(pid) for pid in tree(self._pid)))
            if self._ended.wait(SAMPLE_SECONDS):
                return

    def stop(self) -> int | None:
        """Give the peak in bytes; None on a system that doesn't tell."""
        self._ended.set()
        self._thread.join()
        return self._peak or None


def tree(pid: int) -> list[int]:
    """Give a process and all below it, without Postgres' own."""
    found = [pid]
    for parent in found:
        try:
            children = [
                int(child)
                for task in Path(f"/proc/{parent}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
        except OSError:
            continue
        found += [child for child in children if program_of(child) not in {"postgres", "initdb", "pg_ctl"}]
    return found


def program_of(pid: int) -> str:
    """Give the name of a process' program."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def memory(pid: int) -> int:
    """Give a process' share of memory in bytes: pages that several have count once (Linux' PSS)."""
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open() as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def hardware() -> dict[str, Any]:
    """Describe the machine, and how busy it is with other things before we begin."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "cpu": model,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def text(machine: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """Show figures to people."""
    words = (
        f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, Postgres {machine.get('postgres', '-')}"
    )
    lines = [words, f"load average before: {machine['load_before']} (above 0.5: the machine was busy with others)"]
    program = None
    for figure in figures:
        if figure.program != program:
            program = figure.program
            lines += ["", program]
        lines.append("  " + figure.line())
    return "\n".join(lines)


def document(machine: Mapping[str, Any], figures: Sequence[Figure], options: Options) -> str:
    """Give figures to machines."""
    asked = {"scale": options.scale, "repeat": options.repeat, "real_data": options.real_data is not None}
    whole = {"machine": machine, "options": asked, "figures": [figure.document() for figure in figures]}
    return json.dumps(whole, indent=2)
