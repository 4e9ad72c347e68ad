"""A Postgres of the benchmark's own, with fresh databases, and ``bindery`` run against it as a user runs it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Run, timed

BINDERY = str(Path(sys.executable).with_name("bindery"))


class Place:
    """A folder with data directory, files and landing, and a warehouse of its own for every repeat."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "BINDERY_ENV_FILE": "",
            "BINDERY_DATA_DIR": str(folder / "data"),
            "BINDERY_DROP_DIR": str(folder / "drop"),
        }
        self._numbers = itertools.count(1)
        self._url = ""

    def fresh(self) -> None:
        """Take a new empty warehouse and landing archive; what was made before takes no part any more."""
        number = next(self._numbers)
        self.environment |= {
            "BINDERY_LANDING_URL": str(self.folder / f"landing-{number}"),
            "BINDERY_DATABASE_NAME": f"bench_{number}",
        }
        self.bindery("db", "migrate")
        self._url = ""

    def bindery(self, *arguments: str) -> Run:
        """Run a command of Bindery, as a process of its own."""
        return timed([BINDERY, *arguments], self.environment)

    def load(self, card: Path, **expected: int) -> Run:
        """Fetch and load a card.

        Raises:
            SystemExit: The load did something else than expected.
        """
        run = self.bindery("run", "--card", str(card), "--json")
        result = json.loads([line for line in run.output.splitlines() if '"event": "result"' in line][-1])
        (stream,) = result["streams"].values()
        wrong = {name: stream[name] for name, count in expected.items() if stream[name] != count}
        if wrong:
            raise SystemExit(f"{card}: expected {expected}, got {wrong}")
        return run

    def psql(self, script: str) -> Run:
        """Run SQL as the loader with psql alone: the limit to compare with."""
        from dagster_project.embedded.binaries import wheel_folder

        if not self._url:
            self._url = self.bindery("db", "url", "--role", "loader", "--show-password").output.strip()
        command = [str(wheel_folder() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self._url]
        return timed(command, self.environment, script, watch=False)

    def admin_url(self) -> str:
        """Give the address of the newest warehouse for a program that makes its own schemas."""
        return self.bindery("db", "url", "--role", "owner", "--show-password").output.strip()

    def files(self, name: str) -> Path:
        """Make an empty folder."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make a place, empty; its server is stopped and its files are deleted afterwards."""
    from dagster_project import embedded
    from dagster_project.embedded.home import Home
    from dagster_project.settings import Settings

    folder = Path(tempfile.mkdtemp(prefix="bindery-bench-"))
    folder.chmod(0o755)  # as root the server runs as somebody else
    try:
        yield Place(folder)
    finally:
        with contextlib.suppress(embedded.EmbeddedError):
            embedded.stop(Settings(data_dir=folder / "data"))
        shutil.rmtree(Home(folder / "data").elsewhere, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def postgres_version() -> str:
    """Give the version of the Postgres that the benchmarks bring along."""
    from dagster_project.embedded.binaries import wheel_folder

    said = subprocess.run([wheel_folder() / "postgres", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def own_environment() -> None:
    """Take the caller's settings away, so that they change no figure."""
    for name in list(os.environ):
        if name.startswith(("BINDERY_", "PG", "POSTGRES_", "DAGSTER_")) or name in {"SOURCES", "REVISION"}:
            del os.environ[name]


def card_file(path: Path, document: dict[str, Any]) -> Path:
    """Write a card; JSON is YAML."""
    path.write_text(json.dumps(document))
    return path
