"""Postgres' own pg_dump and pg_restore: those of the wheel that brings the embedded server, else those in PATH.

Passwords go through the environment of the program: a command line is there for everybody to read.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

from dagster_project.operations.backup import BackupError

if TYPE_CHECKING:
    from dagster_project.settings import Settings

DUMP = ("--no-password", "--format=custom", "--compress=4", "--lock-wait-timeout=600000")
RESTORE = ("--no-password", "--exit-on-error", "--single-transaction")
"""In one transaction: a database is restored or empty."""


def program(name: str) -> str:
    """Find a program.

    Raises:
        BackupError: There is none.
    """
    from dagster_project.embedded.binaries import wheel_folder
    from dagster_project.embedded.errors import EmbeddedError

    try:
        return str(wheel_folder() / name)
    except EmbeddedError:
        found = shutil.which(name)
    if found is None:
        raise BackupError(
            f"there is no {name} here: for the platform in Docker use `make backup` and `make restore`, elsewhere "
            "install Postgres' client programs"
        )
    return found


def connection(settings: Settings, database: str) -> tuple[str, dict[str, str]]:
    """Give the connection of the login that administers the server: for a command line, and for the environment."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from dagster_project.embedded.binaries import ENVIRONMENT

    parts = conninfo_to_dict(settings.admin_dsn(database).get_secret_value())
    password = parts.pop("password", None)
    return make_conninfo("", **parts), ENVIRONMENT | ({"PGPASSWORD": str(password)} if password else {})


@contextlib.contextmanager
def dumping(settings: Settings, database: str) -> Iterator[IO[bytes]]:
    """Dump a database; gives the stream to read. Leaving the block waits for the program's end.

    Raises:
        BackupError: It failed; the message holds its words.
    """
    where, environment = connection(settings, database)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [program("pg_dump"), *DUMP, f"--dbname={where}"], stdout=subprocess.PIPE, stderr=said, env=environment
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait()
        if code != 0:
            raise BackupError(f"pg_dump of {database} failed: {_words(said)}")


def restore(settings: Settings, database: str, content: Iterable[bytes]) -> None:
    """Fill an empty database from a dump, wholly or not at all.

    Raises:
        BackupError: It failed; the message holds the program's words.
    """
    where, environment = connection(settings, database)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [program("pg_restore"), *RESTORE, f"--dbname={where}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment,
        )
        assert process.stdin is not None
        try:
            # It ends early where something is wrong, and says why.
            with contextlib.suppress(BrokenPipeError):
                for block in content:
                    process.stdin.write(block)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if process.wait() != 0:
            raise BackupError(f"pg_restore into {database} failed: {_words(said)}")


def _words(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace").strip()[-2000:] or "it says nothing"
