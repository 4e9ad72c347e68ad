"""Start, stop and look at the embedded server.

The server outlives the process that starts it, and the next command finds it running. Every path here may be cut off by
``kill -9`` at any line, and the next start picks up from what is on disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from dagster_project.embedded import cluster as cluster_files
from dagster_project.embedded.account import Account, identity, unprivileged_account
from dagster_project.embedded.binaries import ENVIRONMENT, Binaries, find_binaries
from dagster_project.embedded.errors import EmbeddedError, disk_full, mentions_full_disk
from dagster_project.embedded.home import Home, Remembered
from dagster_project.embedded.processes import (
    Postmaster,
    command_line,
    disarm_stale_pid_file,
    end_orphans,
    find_postmaster,
)
from dagster_project.settings import Settings

START_SECONDS = 300.0
"""Recovery after a crash reads the log since the last checkpoint: seconds on a laptop, minutes on a slow disk."""
STOP_SECONDS = 60.0
LAST_WORDS_SECONDS = 2.0
NO_ROOM_BYTES = 1_000_000
PORT_ATTEMPTS = 5
PORT_WORDS = "could not bind"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server."""

    dsn: SecretStr
    """URL of the superuser, database ``postgres``."""
    host: str
    port: int
    version: str
    data_dir: Path
    """The cluster: what Postgres calls its data directory."""
    pid: int
    log: Path
    started: bool
    """This call started it; otherwise it ran already."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What there is, running or not."""

    state: Literal["running", "starting", "stopped", "absent"]
    data_dir: Path
    log: Path
    port: int | None = None
    pid: int | None = None
    version: str | None = None


def start(settings: Settings, *, durable: bool = True) -> ServerInfo:
    """Give the running server of the settings' data directory; make and start it where needed.

    Args:
        settings: Say where, and as which account when we are root.
        durable: False for throw-away servers of tests: no fsync.

    Raises:
        DiskFullError: There is no room.
        EmbeddedError: It can't be made or started; the message says why and what to do.
    """
    home = Home(settings.data_dir.resolve())
    cluster = home.cluster()
    if (info := _running(home, cluster)) is not None:
        return info
    with home.locked():
        account = unprivileged_account(settings.embedded_user)
        # Asked again: whoever had the lock may just have decided where the cluster is.
        cluster = home.cluster()
        if (postmaster := _wait_for_other(cluster)) is not None:
            return _adopt(home, cluster, postmaster)
        try:
            return _start(home, account, durable=durable)
        except OSError as error:
            if (line := mentions_full_disk(str(error))) is not None:
                raise disk_full(home.folder, line) from None
            raise EmbeddedError(f"Postgres can't be started in {home.folder}: {error}") from error


def stop(settings: Settings) -> bool:
    """Shut the server down: open transactions are rolled back, everything committed is on disk.

    Returns:
        False where none ran.

    Raises:
        EmbeddedError: It belongs to another user, or doesn't end.
    """
    home = Home(settings.data_dir.resolve())
    if not home.folder.exists():
        return False
    with home.locked():
        cluster = home.cluster()
        postmaster = find_postmaster(cluster)
        if postmaster is None:
            return False
        for how in (signal.SIGINT, signal.SIGQUIT):
            # Fast shutdown; after a minute immediate: as safe, but the next start has to recover.
            _signal(postmaster.pid, how)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                if command_line(postmaster.pid) is None:
                    return True
                time.sleep(0.01)
        raise EmbeddedError(f"Postgres (pid {postmaster.pid}) doesn't end; its log is in {cluster / 'log'}")


def status(settings: Settings) -> ServerStatus:
    """Look, without starting or changing anything."""
    home = Home(settings.data_dir.resolve())
    cluster = home.cluster()
    remembered = home.remembered()
    port, version = (remembered.port, remembered.version) if remembered else (None, None)
    log = _log_file(cluster) or home.start_log
    if (postmaster := find_postmaster(cluster)) is not None:
        state: Literal["running", "starting"] = "running" if postmaster.ready else "starting"
        return ServerStatus(state, cluster, log, postmaster.port or port, postmaster.pid, version)
    return ServerStatus("stopped" if (cluster / "PG_VERSION").exists() else "absent", cluster, log, port, None, version)


def _running(home: Home, cluster: Path) -> ServerInfo | None:
    """Answer from three small files, without the lock, when all is well: what nearly every command meets."""
    remembered = home.remembered()
    postmaster = find_postmaster(cluster) if remembered is not None else None
    if remembered is None or postmaster is None or not postmaster.ready or postmaster.port != remembered.port:
        return None
    password = cluster_files.existing_password(home)
    return None if password is None else _info(home, cluster, postmaster, remembered.version, password, started=False)


def _info(
    home: Home, cluster: Path, postmaster: Postmaster, version: str, password: str, *, started: bool
) -> ServerInfo:
    dsn = SecretStr(f"postgresql://postgres:{password}@127.0.0.1:{postmaster.port}/postgres")
    log = _log_file(cluster) or home.start_log
    assert postmaster.port is not None
    return ServerInfo(dsn, "127.0.0.1", postmaster.port, version, cluster, postmaster.pid, log, started)


def _adopt(home: Home, cluster: Path, postmaster: Postmaster) -> ServerInfo:
    """Take over a server whose starter was killed before it wrote down that it runs."""
    password = cluster_files.existing_password(home)
    if password is None:
        raise EmbeddedError(f"{home.password_file} is gone: `bindery db stop` and `start` make a new password")
    version = (home.remembered() or Remembered(0, (cluster / "PG_VERSION").read_text().strip())).version
    assert postmaster.port is not None
    home.remember(Remembered(postmaster.port, version))
    return _info(home, cluster, postmaster, version, password, started=False)


def _start(home: Home, account: Account | None, *, durable: bool) -> ServerInfo:
    cluster = home.cluster() if home.location_file.exists() else home.place_cluster(account)
    binaries = find_binaries(account, home.elsewhere)
    if not cluster.exists():
        cluster_files.make_cluster(home, cluster, binaries, account, durable=durable)
    cluster_files.check_version(cluster)
    if account is None and cluster.stat().st_uid != os.geteuid():
        raise EmbeddedError(
            f"{cluster} belongs to another user (uid {cluster.stat().st_uid}): run as that user, or as root if root "
            "made it, or set BINDERY_DATA_DIR to a folder of your own"
        )
    cluster_files.configure(cluster, account, durable=durable)
    end_orphans(cluster)
    disarm_stale_pid_file(cluster)
    if cluster_files.existing_password(home) is None:
        cluster_files.restore_password(home, cluster, binaries, account)
    remembered = home.remembered()
    port = remembered.port if remembered is not None else free_port()
    for _ in range(PORT_ATTEMPTS):
        attempt = _spawn(home, cluster, binaries, account, port)
        try:
            postmaster = _wait(home, cluster, attempt)
        except PortTakenError:
            port = free_port()
            continue
        # Not always ours: a server that a killed starter left before it had its pid file may have been quicker.
        assert postmaster.port is not None
        home.remember(Remembered(postmaster.port, binaries.version))
        password = cluster_files.existing_password(home)
        assert password is not None
        ours = postmaster.pid == attempt.pid
        return _info(home, cluster, postmaster, binaries.version, password, started=ours)
    raise EmbeddedError(f"no free port on 127.0.0.1 after {PORT_ATTEMPTS} attempts, the last was {port}")


def free_port() -> int:
    """Give a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PortTakenError(Exception):
    """Somebody else got the port meanwhile."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A server process just started, and how much its log held before."""

    pid: int
    log_size: int


def _spawn(home: Home, cluster: Path, binaries: Binaries, account: Account | None, port: int) -> Attempt:
    """Start the server in a session of its own, as nobody's child: it neither dies with us nor becomes our zombie."""
    log = _log_file(cluster)
    attempt_log = log.stat().st_size if log is not None else 0
    command = [binaries.program("postgres"), "-D", str(cluster), "-p", str(port)]
    with home.start_log.open("w") as output:
        done = subprocess.run(
            # The intermediate shell ends at once; it only says the pid.
            ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh", *command],
            stdout=subprocess.PIPE,
            stderr=output,
            stdin=subprocess.DEVNULL,
            text=True,
            check=True,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            umask=0o077,
            **identity(account),
        )
    return Attempt(int(done.stdout), attempt_log)


def _wait(home: Home, cluster: Path, attempt: Attempt) -> Postmaster:
    """Wait until a server of the cluster takes connections: ours, or one that another starter left behind.

    Raises:
        PortTakenError: It ended because of its port.
        DiskFullError: It ended because of the disk.
        EmbeddedError: It ended for another reason, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        gone = command_line(attempt.pid) is None
        postmaster = find_postmaster(cluster)
        if postmaster is not None and postmaster.ready:
            return postmaster
        if gone and postmaster is None:
            raise _failure(home, cluster, attempt)
        time.sleep(0.01)
    raise EmbeddedError(f"Postgres isn't ready after {START_SECONDS:.0f} s; its log: {_log_file(cluster)}")


def _wait_for_other(cluster: Path) -> Postmaster | None:
    """Give the server that is there once it takes connections; None where there is none, or it was just ending."""
    deadline = time.monotonic() + START_SECONDS
    while (postmaster := find_postmaster(cluster)) is not None and not postmaster.ready:
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"Postgres (pid {postmaster.pid}) neither starts nor ends; its log: {_log_file(cluster)}"
            )
        time.sleep(0.01)
    return postmaster


def _failure(home: Home, cluster: Path, attempt: Attempt) -> Exception:
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while not any(word in (said := _said(home, cluster, attempt)) for word in ("FATAL", "PANIC")):
        # The server is gone before its log's own process has written its last words.
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    if PORT_WORDS in said:
        return PortTakenError()
    if (line := mentions_full_disk(said)) is not None:
        return disk_full(cluster, line)
    if (free := shutil.disk_usage(cluster).free) < NO_ROOM_BYTES:
        # Too full even for the log to say so.
        return disk_full(cluster, f"nothing, {free} bytes are free")
    tail = "\n".join(said.strip().splitlines()[-15:])
    return EmbeddedError(f"Postgres didn't start in {cluster}. It said:\n{tail}")


def _said(home: Home, cluster: Path, attempt: Attempt) -> str:
    said = home.start_log.read_text(errors="replace") if home.start_log.exists() else ""
    if (log := _log_file(cluster)) is not None:
        with log.open(errors="replace") as file:
            size = log.stat().st_size
            file.seek(attempt.log_size if attempt.log_size <= size else 0)
            said += file.read()
    return said


def _log_file(cluster: Path) -> Path | None:
    """Give the server's newest log."""
    try:
        logs = [(path.stat().st_mtime, path) for path in (cluster / "log").glob("postgres-*.log")]
    except OSError:
        return None
    return max(logs)[1] if logs else None


def _signal(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, how)
        except PermissionError:
            raise EmbeddedError(f"Postgres (pid {pid}) belongs to another user: stop it as that user") from None
