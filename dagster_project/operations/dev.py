"""Dagster on a laptop: code server, webserver and daemon over the same instance that `bindery run` writes to.

The three are children of one foreground process, listen on loopback only, and end with it. ``workspace.yaml`` is the
one that compose's webserver and daemon load as well.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dagster_project.operations.instance import (
    Home,
    InstanceError,
    fail_dead_runs,
    listens,
    open_instance,
    prepare_home,
)

if TYPE_CHECKING:
    from dagster_project.settings import Settings

LOOPBACK = "127.0.0.1"
START_SECONDS = 90
STOP_SECONDS = 15
ENV_BEGIN = "# >>> written by `bindery dev`: where `dagster` finds this installation"
ENV_END = "# <<< written by `bindery dev`"


@dataclass
class Servers:
    """The running children."""

    url: str
    home: Home
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise when one of them ended by itself.

        Raises:
            InstanceError: One did; the message says where its log is.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = self.home.path / "logs" / f"{name}.log"
                raise InstanceError(f"the {name} ended with code {process.returncode}\n{tail(log)}\nwhole log: {log}")

    def stop(self) -> None:
        """End all of them, gently first."""
        for process in reversed(self.processes.values()):
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        for process in self.processes.values():
            _signal(process, signal.SIGKILL)
            process.wait()


def run_dev(
    settings: Settings, *, port: int = 3000, code_only: bool = False, say: Callable[[str], None] = print
) -> None:
    """Start the servers, and stay until Ctrl-C, SIGTERM, or until one of them ends.

    Args:
        settings: Say which installation.
        port: Of the UI.
        code_only: Only the code server, for a `dagster dev -w workspace.yaml` in another terminal.
        say: Takes a line for the person at the terminal.

    Raises:
        InstanceError: A port is taken, or a server ended by itself.
    """

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell that starts us in the background has it ignored.
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with serving(settings, port=port, code_only=code_only, env_file=_env_file(settings)) as servers:
            if code_only:
                say(f"code server on {settings.code_host}:{settings.code_port}; now: dagster dev -w workspace.yaml")
            else:
                say(f"Dagster is at {servers.url} (Ctrl-C ends it; logs in {servers.home.path / 'logs'})")
            while True:
                time.sleep(0.5)
                servers.check()
    except KeyboardInterrupt:
        say("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def serving(
    settings: Settings, *, port: int = 3000, code_only: bool = False, env_file: Path | None = None
) -> Iterator[Servers]:
    """Run the servers for the length of a block; when it begins they answer.

    ``env_file`` is where plain `dagster` commands are told of this instance.

    Raises:
        InstanceError: A port is taken, or a server didn't start.
    """
    from dagster_project import warehouse
    from dagster_project.dbt_assets.program import prepare

    warehouse.ensure_ready(settings)
    prepare(settings)
    home = prepare_home(settings)
    (home.path / "logs").mkdir(exist_ok=True)
    end_leftovers(home.path)
    taken = [("code server", settings.code_host, settings.code_port)]
    if not code_only:
        taken.append(("UI", LOOPBACK, port))
    for what, host, number in taken:
        if listens(host, number):
            raise InstanceError(
                f"port {number}, for the {what}, is taken: is another `bindery dev` running? Otherwise choose another "
                + ("with --port" if what == "UI" else "with BINDERY_CODE_PORT")
            )
    with open_instance(home) as instance:
        fail_dead_runs(instance)
    if env_file is not None:
        write_env_file(env_file, home.environment)
    servers = Servers(f"http://localhost:{port}", home)
    try:
        commands = _commands(settings, port, code_only)
        _launch(servers, {"code-server": commands.pop("code-server")})
        # The others ask it for the definitions as soon as they run, and remember for a while if nobody answers.
        _wait(servers, settings.code_host, settings.code_port)
        if commands:
            _launch(servers, commands)
            _wait(servers, LOOPBACK, port)
        yield servers
    finally:
        servers.stop()
        (home.path / "dev.json").unlink(missing_ok=True)


def _commands(settings: Settings, port: int, code_only: bool) -> dict[str, list[str]]:
    workspace = str(settings.project_dir / "workspace.yaml")
    python = sys.executable
    code = [python, "-m", "dagster", "code-server", "start", "-m", "dagster_project.definitions"]
    code += ["--host", settings.code_host, "--port", str(settings.code_port), "--location-name", "bindery"]
    if code_only:
        return {"code-server": code}
    web = [python, "-m", "dagster_webserver", "-w", workspace, "--host", LOOPBACK, "--port", str(port)]
    daemon = [python, "-m", "dagster._daemon", "run", "-w", workspace]
    return {"code-server": code, "webserver": web, "daemon": daemon}


def _launch(servers: Servers, commands: Mapping[str, list[str]]) -> None:
    for name, arguments in commands.items():
        servers.processes[name] = _start(name, arguments, servers.home)
    remember(servers.home.path, servers.processes)


def _start(name: str, arguments: list[str], home: Home) -> subprocess.Popen[bytes]:
    from dagster_project.settings import child_environment

    log: IO[bytes]
    with (home.path / "logs" / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            arguments,
            # Not the project's folder: Dagster's commands let a `.env` there override what they are given here.
            cwd=home.path,
            env=child_environment(home.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches only us, so that they end in order.
            start_new_session=True,
        )


def _wait(servers: Servers, host: str, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not listens(host, port, seconds=0.5):
        servers.check()
        if time.monotonic() > deadline:
            raise InstanceError(
                f"nothing answers on port {port} after {START_SECONDS} s; logs: {servers.home.path / 'logs'}"
            )
        time.sleep(0.1)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a child and what it started (the code server has a worker, the daemon none)."""
    import os

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def remember(home: Path, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Write down the children, so that a later start finds those that a killed parent left."""
    (home / "dev.json").write_text(json.dumps({name: process.pid for name, process in processes.items()}))


def end_leftovers(home: Path) -> None:
    """End servers whose parent was killed; only processes that are still those servers are touched."""
    import os

    try:
        left: dict[str, int] = json.loads((home / "dev.json").read_text())
    except (OSError, ValueError):
        return
    for pid in left.values():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        # A parent other than init means that another `bindery dev` is alive: the port check will say so.
        if parent == 1 and b"dagster" in command:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def _env_file(settings: Settings) -> Path | None:
    """Give the ``.env`` that `dagster` reads as well, unless this installation was told to use another or none."""
    from dagster_project.settings import child_environment
    from dagster_project.settings.layers import env_file

    path = settings.project_dir / ".env"
    return path if env_file(child_environment({}), settings.project_dir) == path else None


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Keep a block of ``.env`` current, so that plain `dagster` commands find this instance; the rest stays as it is.

    Holds no secret: the storage's password is in the file that PGPASSFILE names.
    """
    wanted = ("DAGSTER_HOME", "BINDERY_DAGSTER_URL", "PGPASSFILE", "BINDERY_CODE_HOST", "BINDERY_CODE_PORT")
    block = [ENV_BEGIN, *(f"{name}={values[name]}" for name in wanted), ENV_END]
    lines = path.read_text().splitlines() if path.exists() else []
    if ENV_BEGIN in lines and ENV_END in lines:
        start, end = lines.index(ENV_BEGIN), lines.index(ENV_END)
        lines[start : end + 1] = block
    else:
        lines += block
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def tail(path: Path, lines: int = 15) -> str:
    """Give the end of a log."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return int(found.getsockname()[1])
