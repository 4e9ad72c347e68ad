"""Whether a server runs: what its pid file says, held against what the system says about that process.

A pid alone proves nothing: it may be dead, a zombie that nobody has reaped, or somebody else's by now.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

DEAD_PID = 2**31 - 2
"""No process has it: above every system's limit."""
PROC = Path("/proc/self/stat")
"""Where it exists (Linux), processes are read from files; elsewhere ``ps`` is asked."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server process that is really there."""

    pid: int
    port: int | None
    ready: bool


def find_postmaster(cluster: Path) -> Postmaster | None:
    """Give the live server of a cluster, or None."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        pid, folder = int(lines[0]), lines[1].strip()
    except (OSError, ValueError, IndexError):
        return None
    command = command_line(pid)
    if command is None or not folder or folder not in command:
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None
    return Postmaster(pid, port, ready=len(lines) > 7 and lines[7].strip() == "ready")


def command_line(pid: int) -> str | None:
    """Give a live process's command line; None where it is gone or a zombie."""
    if PROC.exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            # World-readable, unlike the link /proc/<pid>/cwd, which root in a container may not follow.
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, IndexError):
            return None
        return None if state in "ZX" else command.replace(b"\0", b" ").decode(errors="replace")
    done = subprocess.run(["/bin/ps", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True)  # noqa: PLW1510
    state, _, command_text = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else command_text


def disarm_stale_pid_file(cluster: Path) -> None:
    """Make Postgres see that the process in its pid file is gone; call only when ``find_postmaster`` found none.

    Postgres takes any process with that pid, a zombie too, for a running server. The file is not deleted: its shared
    memory key lets Postgres notice backends that outlived their server, which must not write beside a new one.
    """
    path = cluster / "postmaster.pid"
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (OSError, ValueError):
        return
    if not lines or not lines[0].strip().isdigit():
        # A torn write: Postgres would stop at it ("bogus data in lock file").
        path.unlink(missing_ok=True)
        return
    lines[0] = f"{DEAD_PID}\n"
    path.write_text("".join(lines))


def end_orphans(cluster: Path, seconds: float = 10) -> None:
    """End backends that outlived a killed server; they'd keep the new one from starting until their query ends."""
    deadline = time.monotonic() + seconds
    while (orphans := _processes_in(cluster)) and time.monotonic() < deadline:
        for pid in orphans:
            try:
                os.kill(pid, signal.SIGQUIT)
            except OSError:
                continue
        time.sleep(0.02)


def _processes_in(cluster: Path) -> list[int]:
    """List live Postgres processes whose working directory is the cluster, as that of every backend is (Linux)."""
    found = []
    try:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    for pid in pids:
        try:
            inside = Path(f"/proc/{pid}/cwd").readlink() == cluster
        except OSError:
            continue
        if inside and (command_line(pid) or "").startswith("postgres"):
            found.append(pid)
    return found
