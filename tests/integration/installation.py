"""An installation of its own for a test module: data directory, databases, sample world, and its commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from dagster_project import sample
from dagster_project.settings import Settings
from tests.integration import doomed
from tests.run import ROOT

if TYPE_CHECKING:
    import psycopg

SCHEMAS = ("bindery", "raw", "snapshots", "staging", "intermediate", "marts", "features", "app")
BINDERY = Path(sys.executable).parent / "bindery"
ASSETS = (ROOT / "tests" / "unit" / "asset_keys.txt").read_text().split()


@dataclass
class Installation:
    """Where it is, and how to use it as a person at a terminal would."""

    settings: Settings
    environment: dict[str, str]

    def quick(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """The same without a second of imports, for everything but runs of the whole graph."""
        return doomed.bindery(words, {**self.environment, **more}, seconds=400)

    def bindery(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.command(BINDERY, *arguments, **more)

    def command(self, program: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *arguments], env={**self.environment, **more}, capture_output=True, text=True, timeout=400
        )

    def start(self, *arguments: str, log: Path, **more: str) -> subprocess.Popen[bytes]:
        """In a session of its own, as a terminal gives it."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [str(BINDERY), *arguments],
                env={**self.environment, **more},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def fenced(self, log: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """With nothing in reach but loopback, and of the outside the database server."""
        assert self.settings.database_url is not None
        door = urlsplit(self.settings.database_url.get_secret_value()).port
        ours = {name: value for name, value in self.environment.items() if name.startswith("BINDERY_")}
        return fenced(log, BINDERY, *arguments, door=door, **ours, **more)

    def connect(self, database: str | None = None) -> psycopg.Connection[Any]:
        from dagster_project.warehouse.connection import connect_admin

        return connect_admin(self.settings, database or self.settings.database_name)

    def rows(self, query: str, database: str | None = None) -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            return connection.execute(query.encode()).fetchall()

    def one(self, query: str, database: str | None = None) -> Any:
        return self.rows(query, database)[0][0]

    def content(
        self, database: str | None = None, schemas: Iterable[str] = SCHEMAS, without: Iterable[str] = ()
    ) -> dict[str, tuple[int, int]]:
        """Table -> number of rows and a sum over all their values, those of some columns left out."""
        listed = ", ".join(f"'{schema}'" for schema in schemas)
        tables = self.rows(f"select schemaname, tablename from pg_tables where schemaname in ({listed})", database)
        columns = "array[" + ", ".join(f"'{column}'" for column in without) + "]::text[]"
        return {
            f"{schema}.{table}": self.rows(
                f"select count(*), coalesce(sum(hashtext((to_jsonb(t) - {columns})::text)::bigint), 0)::bigint "
                f'from "{schema}"."{table}" t',
                database,
            )[0]
            for schema, table in tables
        }


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The result that `bindery run --json` prints last."""
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, f"no result\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    found: dict[str, Any] = lines[-1]
    assert found["event"] == "result"
    return found


def fenced(
    log: Path, *command: str | Path, door: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that reaches nothing but this machine; ``log`` gets what it tried.

    What the Makefile sets against telemetry is left out on purpose: the product has to be silent by itself.
    """
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "LANG": "C.UTF-8", **variables}
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.isolated", str(log), str(door or "-"), *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


def fence_log(log: Path, kind: str) -> list[list[str]]:
    """What a fence wrote down: ``refused``, ``guarded`` (a Python process began), ``fence``."""
    return [fields for line in log.read_text().splitlines() if (fields := line.split("\t"))[0] == kind]


def assets_of(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {asset["key"]: asset for asset in result["assets"]}


def graphql(port: int, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = Request(f"http://127.0.0.1:{port}/graphql", body, {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    assert "errors" not in found, found["errors"]
    data: dict[str, Any] = found["data"]
    return data


def wait_until(
    happened: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, *, pause: float = 0.05
) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(pause)


def nothing_is_left(leader: subprocess.Popen[bytes]) -> None:
    """Wait until nothing of a process's session is there any more: no step, no dbt, no parent of steps."""
    deadline = time.monotonic() + 30
    while True:
        listed = subprocess.run(["ps", "-o", "stat=,pid=,args=", "-s", str(leader.pid)], capture_output=True, text=True)
        if all(line.startswith("Z") for line in listed.stdout.splitlines()):
            return
        assert time.monotonic() < deadline, listed.stdout
        time.sleep(0.2)


def last_status(place: Installation) -> str:
    return str(place.one("select status from runs order by id desc limit 1", place.settings.dagster_database))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def installation(
    server: Settings, admin: psycopg.Connection[Any], folder: Path, name: str, **more: str
) -> Iterator[Installation]:
    """Make one on the test server, and take it away again."""
    names = {kind: f"{name}_{os.getpid()}_{kind}" for kind in ("bindery", "dagster", "debug")}
    assert server.database_url is not None
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BINDERY_", "PG", "POSTGRES_", "DAGSTER_")) and key not in {"SOURCES", "REVISION"}
    }
    environment = {
        **clean,
        "BINDERY_ENV_FILE": "",
        "BINDERY_DATABASE_URL": server.database_url.get_secret_value(),
        "BINDERY_DATABASE_NAME": names["bindery"],
        "BINDERY_DAGSTER_DATABASE": names["dagster"],
        "BINDERY_DEBUG_DATABASE": names["debug"],
        "BINDERY_DATA_DIR": str(folder / "data"),
        "BINDERY_SECRETS_DIR": str(server.secrets_path),
        "BINDERY_DROP_DIR": str(folder / "drop"),
        "BINDERY_ENVIRONMENT": "test",
        **more,
    }
    settings = Settings(
        data_dir=folder / "data",
        drop_dir=folder / "drop",
        database_url=server.database_url,
        database_name=names["bindery"],
        dagster_database=names["dagster"],
        debug_database=names["debug"],
        secrets_dir=server.secrets_path,
        environment="test",
    )
    try:
        yield Installation(settings, environment)
    finally:
        sample.stop(settings.data_dir / "sample")
        for each in (
            *names.values(),
            f"{names['bindery']}_template",
            f"{names['bindery']}_fresh",
            f"{names['bindery']}_fresh_template",
        ):
            admin.execute(f'drop database if exists "{each}" with (force)'.encode())
