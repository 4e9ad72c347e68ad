"""A dbt process, however it comes about: forked from one that has dbt imported, where one is there, else started.

``preloaded`` is the other side. Which arguments dbt gets, and what its output means, is ``invocation``'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from dagster_project.dbt_assets.program import command, environment, project_options, work_folder

if TYPE_CHECKING:
    from dagster_project.settings import Settings

LONGEST_PATH = 100
"""Of a Unix socket, on every system."""
START_SECONDS = 30
"""A call may come while dbt is still being imported, or the project read. After that it starts dbt by itself."""


class Process(Protocol):
    """What is used of a running dbt."""

    stdout: IO[str] | None

    def poll(self) -> int | None:
        """Give the exit code, None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


def socket_path(settings: Settings) -> Path:
    """Give the place where a preloaded dbt listens."""
    return settings.data_dir.absolute() / "dbt" / "preloaded"


@contextlib.contextmanager
def preloaded(settings: Settings, database: str | None) -> Iterator[None]:
    """Have dbt imported and the project read while this lasts: calls from any process take three seconds less.

    Calls on another database save only the import. Where nothing can be preloaded (dbt isn't in an environment beside
    its Python, the path is too long) calls are as they were.
    """
    python, path = settings.dbt_path.with_name("python"), socket_path(settings)
    if not python.exists() or len(os.fsencode(path)) > LONGEST_PATH:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    program = Path(__file__).with_name("preloaded.py")
    with work_folder(settings, database) as folder:
        parse = [*command(settings)[1:], "parse", *project_options(settings, folder), "--no-write-json"]
        server = subprocess.Popen(
            # -P: the folder of the program, where modules have everyday names, isn't searched.
            [str(python), "-P", str(program), str(path), *parse],
            env=environment(settings, database),
            cwd=settings.dbt_project_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for whoever called; that interrupts dbt in order
        )
        try:
            yield
        finally:
            assert server.stdin is not None
            server.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(5)
            if server.poll() is None:
                server.terminate()
                server.wait()


def start(
    settings: Settings, arguments: Sequence[str], variables: Mapping[str, str], folder: Path, results: Path
) -> Process:
    """Start dbt.

    Args:
        settings: Say which dbt.
        arguments: The program, then its arguments.
        variables: All of its environment.
        folder: Where it runs.
        results: Folder that ``run_results.json`` goes to: the target path among the arguments.

    Raises:
        FileNotFoundError: There is no such program.
    """
    with contextlib.suppress(OSError):
        call = {
            "arguments": list(arguments[1:]),
            "environment": dict(variables),
            "folder": str(folder),
            "results": str(results),
        }
        return Fork(socket_path(settings), json.dumps(call).encode())
    return subprocess.Popen(
        arguments,
        env=dict(variables),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


class Fork:
    """A dbt that was forked for one call."""

    def __init__(self, path: Path, call: bytes) -> None:
        """Ask for it.

        Raises:
            OSError: Nobody listens, or whoever did is gone.
        """
        self._code: int | None = None
        self._told = b""
        self._connection = socket.socket(socket.AF_UNIX)
        read, written = os.pipe()
        try:
            self._connection.settimeout(START_SECONDS)
            self._connection.connect(str(path))
            socket.send_fds(self._connection, [len(call).to_bytes(8)], [written])
            self._connection.sendall(call)
            self.pid = self._number()
        except BaseException:
            os.close(read)
            self._connection.close()
            raise
        finally:
            os.close(written)
        self.stdout: IO[str] | None = os.fdopen(read, encoding="utf-8", errors="replace")

    def poll(self) -> int | None:
        """Give the exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; of a process whose parent was killed it is that of a killed one."""
        if self._code is None:
            self._connection.settimeout(timeout)
            try:
                self._code = self._number()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("dbt", timeout or 0) from None
            except OSError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                self._code = -signal.SIGKILL
            self._connection.close()
        return self._code

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        while b"\n" not in self._told:
            more = self._connection.recv(64)
            if not more:
                raise ConnectionError("the preloaded dbt is gone")
            self._told += more
        line, _, self._told = self._told.partition(b"\n")
        return int(line)
