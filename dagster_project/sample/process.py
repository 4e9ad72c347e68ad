"""Start, find and stop the sample world's server, from any process, any number of times.

One folder is one server. Its file world.json remembers port, pid and what is served; a lock file lets one starter at
a time look and act. A pid alone proves nothing (it may be another program's by now): the server is known by a random
name that is in its command line, in /healthz and in world.json.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dagster_project.sample.draws import draw
from dagster_project.sample.endpoint import bind, code_version
from dagster_project.sample.world import DEFAULT_SEED, World

STATE_FILE = "world.json"
_START_SECONDS = 20.0
_KILL_SECONDS = 5.0
STOP_SECONDS = 5.0
HEALTH_SECONDS = 5.0


class SampleWorldError(RuntimeError):
    """The sample world's server could not be started or stopped."""


@dataclass(frozen=True, slots=True)
class WorldInfo:
    """Where the sample world is served."""

    gutenberg_url: str
    bookshop_url: str
    pid: int
    port: int
    revision: int
    scale: float
    seed: int
    version: str
    instance: str


def ensure_running(
    state_dir: Path, revision: int | None = None, scale: float = 1.0, seed: int = DEFAULT_SEED
) -> WorldInfo:
    """Return the running server of `state_dir`, started or restarted where needed.

    Without a revision it is the one that was served last, whether or not the server still runs, at first 1: a world
    that has moved on doesn't go back by itself.

    It is restarted when revision, scale, seed or the code have changed, on the same port if that is free: URLs are keys
    of what people scrape, so they should not change between runs.

    Raises:
        ValueError: a revision or scale that can't be.
        SampleWorldError: it doesn't answer; the message has the end of its log.
    """
    World(1 if revision is None else revision, scale, seed)
    version = code_version()
    state_dir.mkdir(parents=True, exist_ok=True)
    with _locked(state_dir):
        known = _read(state_dir)
        if revision is None:
            revision = known.revision if known is not None else 1
        if known is not None:
            wanted = (revision, float(scale), seed, version)
            if (known.revision, known.scale, known.seed, known.version) == wanted and _answers(known):
                return known
            _end(known)
        return _start(state_dir, revision, scale, seed, version, known.port if known else None)


def status(state_dir: Path) -> WorldInfo | None:
    """Return the server of `state_dir` if it runs and answers, else None. Nothing is started or changed."""
    known = _read(state_dir)
    return known if known is not None and _answers(known) else None


def stop(state_dir: Path) -> bool:
    """Stop the server of `state_dir` and tell whether there was one. The port stays remembered.

    Raises:
        SampleWorldError: it didn't end even when killed.
    """
    if not (state_dir / STATE_FILE).is_file():
        return False
    with _locked(state_dir):
        known = _read(state_dir)
        return known is not None and _end(known)


def _start(state_dir: Path, revision: int, scale: float, seed: int, version: str, port: int | None) -> WorldInfo:
    instance = secrets.token_hex(8)
    log = state_dir / "world.log"
    with suppress(FileNotFoundError):
        log.unlink()
    listener = _bind_near(state_dir, port)
    with listener:
        port = listener.getsockname()[1]
        command = [
            *(sys.executable, "-m", "dagster_project.sample", "serve"),
            *("--revision", str(revision), "--scale", repr(float(scale)), "--seed", str(seed)),
            *("--fd", str(listener.fileno()), "--instance", instance),
            *("--state", str((state_dir / STATE_FILE).resolve()), "--log", str(log.resolve())),
        ]
        # The folder above the package is the working directory, so that `-m` finds it installed or not.
        try:
            launched = subprocess.run(
                command,
                cwd=Path(__file__).parents[2],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_START_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SampleWorldError(f"the sample world did not start within {_START_SECONDS:.0f} s") from error
    if launched.returncode != 0:
        raise SampleWorldError(
            f"the sample world did not start (exit {launched.returncode}): {launched.stderr[-2000:]}"
        )
    info = WorldInfo(
        gutenberg_url=f"http://127.0.0.1:{port}/api",
        bookshop_url=f"http://127.0.0.1:{port}/shop/",
        pid=int(launched.stdout),
        port=port,
        revision=revision,
        scale=float(scale),
        seed=seed,
        version=version,
        instance=instance,
    )
    _write(state_dir, info)
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(info):
        if time.monotonic() > deadline or not _is_ours(info):
            _end(info)
            told = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.is_file() else ""
            raise SampleWorldError(f"the sample world on port {port} does not answer; its log {log} ends with: {told}")
        time.sleep(0.02)
    return info


def _bind_near(state_dir: Path, remembered: int | None) -> socket.socket:
    """Bind the remembered port, else one that follows from the folder's path, else any free one.

    The candidates lie below the ports that systems hand to outgoing connections, so that none is taken by chance.
    """
    first = 20_000 + draw("port", state_dir.resolve()) % 10_000
    for port in (*filter(None, [remembered]), *range(first, first + 20), 0):
        with suppress(OSError):
            return bind(port)
    raise SampleWorldError("no free port on 127.0.0.1")


def _read(state_dir: Path) -> WorldInfo | None:
    try:
        return WorldInfo(**json.loads((state_dir / STATE_FILE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # none yet, or of another version: what runs under it ends by itself once the file is replaced


def _write(state_dir: Path, info: WorldInfo) -> None:
    part = state_dir / f".{STATE_FILE}.{os.getpid()}.part"
    part.write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")
    part.replace(state_dir / STATE_FILE)


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    descriptor = os.open(state_dir / "world.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _answers(info: WorldInfo) -> bool:
    """Tell whether the server on the port is the one that is remembered, and serves what is remembered."""
    health = _health(info.port)
    return health is not None and health.get("instance") == info.instance


def _health(port: int) -> dict[str, Any] | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HEALTH_SECONDS) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
                if len(answer) > 1_000_000:
                    return None  # somebody else's endless answer
        health = json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return None
    return health if isinstance(health, dict) else None


def _is_ours(info: WorldInfo) -> bool:
    """Tell whether the remembered pid is a live process with this server's name in its command line."""
    try:
        command = Path(f"/proc/{info.pid}/cmdline").read_bytes()  # empty for a zombie
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        listed = subprocess.run(["ps", "-o", "command=", "-p", str(info.pid)], capture_output=True, check=False)
        command = listed.stdout
    except OSError:
        return False
    return info.instance.encode() in command


def _is_alive(pid: int) -> bool:
    """Tell whether a process still is, zombies apart.

    The command line is gone before the sockets are closed: only the state tells when the port is free.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return False
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return state[:1] not in ("", "Z", "X")


def _end(info: WorldInfo) -> bool:
    """End the remembered server, politely and then not, and tell whether it was there."""
    if not _is_ours(info):
        return False
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        try:
            os.kill(info.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError as error:
            raise SampleWorldError(
                f"the sample world (pid {info.pid}) belongs to another user: stop it there"
            ) from error
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _is_alive(info.pid):
                return True
            time.sleep(0.01)
    raise SampleWorldError(f"the sample world's server (pid {info.pid}) did not end")
