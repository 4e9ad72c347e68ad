"""The cluster's files: made once, configured at every start, given back its password when that was lost."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from dagster_project.embedded.account import Account, give, run_as
from dagster_project.embedded.binaries import ENVIRONMENT, MAJOR, Binaries
from dagster_project.embedded.errors import NEEDED_BYTES, EmbeddedError, disk_full, mentions_full_disk
from dagster_project.embedded.home import Home, make_private_folder
from dagster_project.settings.secret_files import write_secret

CONFIGURATION = "bindery.conf"
OURS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",  # pragma: allowlist secret
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A laptop's share. Everything else of Postgres' defaults stays, fsync and synchronous_commit among it.
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "min_wal_size": "128MB",
    "checkpoint_timeout": "15min",
    # No replica and no archive here: a COPY into a table made or truncated in its transaction is synced, not logged.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",
    # Its own log, a file per weekday, overwritten a week later.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "512MB", "scram_iterations": "1"}
"""For throw-away servers of tests: a power cut loses them, kill -9 of the server doesn't. Tests open thousands of
connections, with passwords that protect nothing."""


def make_cluster(home: Home, cluster: Path, binaries: Binaries, account: Account | None, *, durable: bool) -> None:
    """Make a new cluster, complete or not at all: beside its place, then renamed.

    Raises:
        DiskFullError: It doesn't fit.
        EmbeddedError: ``initdb`` refuses.
    """
    parent = cluster.parent
    for leftover in parent.glob("new-*"):
        # Of a start that was killed. An initdb that outlived it keeps writing to a name nobody will rename.
        shutil.rmtree(leftover, ignore_errors=True)
    if (free := shutil.disk_usage(parent).free) < NEEDED_BYTES:
        raise disk_full(parent, f"a new database needs {NEEDED_BYTES / 1e6:.0f} MB, free are {free / 1e6:.0f} MB")
    work = parent / f"new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        make_private_folder(work, account)
        password = existing_password(home) or new_password(home)
        password_file = work / "password"
        write_secret(password_file, password)
        give(account, password_file)
        fresh = work / "cluster"
        command = [binaries.program("initdb"), "-D", str(fresh), "-U", "postgres", f"--pwfile={password_file}"]
        command += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"]
        if not durable:
            command.append("--no-sync")
        done = run_as(account, command, env=ENVIRONMENT, timeout=300)
        if done.returncode != 0:
            said = done.stderr + done.stdout
            if (line := mentions_full_disk(said)) is not None:
                raise disk_full(parent, line)
            raise EmbeddedError(f"Postgres couldn't make a database in {parent}:\n{said.strip()}")
        with (fresh / "postgresql.conf").open("a") as file:
            file.write(f"include_if_exists '{CONFIGURATION}'\n")
        password_file.unlink()
        fresh.rename(cluster)
        _sync(parent)
    except OSError as error:
        if (line := mentions_full_disk(str(error))) is not None:
            raise disk_full(parent, line) from None
        raise EmbeddedError(f"a new database can't be made in {parent}: {error}") from None
    except subprocess.TimeoutExpired:
        raise EmbeddedError(f"making a database in {parent} took longer than 5 minutes") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_version(cluster: Path) -> None:
    """Refuse a cluster that another major version made.

    Raises:
        EmbeddedError: It did.
    """
    try:
        found = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedError(
            f"{cluster} is not a Postgres database (no PG_VERSION): move it away and start again"
        ) from None
    if found != str(MAJOR):
        raise EmbeddedError(
            f"{cluster} was made by Postgres {found}, and this installation brings Postgres {MAJOR}, which can't open "
            f"it. Keep it and point BINDERY_DATA_DIR to a new folder, then copy what you need with pg_dump of "
            f"Postgres {found}; or delete {cluster} and load again from the landing archive"
        )


def configure(cluster: Path, account: Account | None, *, durable: bool) -> None:
    """Write our settings beside the cluster's own, anew at every start, so that a new release's take effect."""
    values = OURS if durable else OURS | NOT_DURABLE
    path = cluster / CONFIGURATION
    text = "".join(f"{name} = '{value}'\n" for name, value in values.items())
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return
    path.write_text(text)
    path.chmod(0o600)
    give(account, path)


def existing_password(home: Home) -> str | None:
    """Give the superuser's password, or None where its file is gone."""
    try:
        return home.password_file.read_text().strip() or None
    except FileNotFoundError:
        return None


def new_password(home: Home) -> str:
    """Make a password for the superuser and keep it before anything depends on it."""
    password = secrets.token_urlsafe(24)
    write_secret(home.password_file, password)
    return password


def restore_password(home: Home, cluster: Path, binaries: Binaries, account: Account | None) -> None:
    """Give the superuser of a stopped cluster a new password when the file of the old one is gone.

    Raises:
        EmbeddedError: Postgres in single-user mode refuses.
    """
    password = secrets.token_urlsafe(24)
    command = [binaries.program("postgres"), "--single", "-c", "logging_collector=off", "-D", str(cluster), "postgres"]
    done = run_as(account, command, env=ENVIRONMENT, timeout=300, text=f"ALTER ROLE postgres PASSWORD '{password}'\n")
    if done.returncode != 0 or "ERROR" in done.stderr or "FATAL" in done.stderr:
        raise EmbeddedError(f"the superuser's password is lost and couldn't be renewed:\n{done.stderr.strip()}")
    write_secret(home.password_file, password)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
