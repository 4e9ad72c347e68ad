"""An installation of its own for a test module: data directory, databases, sample world, and its commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from dagster_project import sample
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import psycopg

BINDERY = Path(sys.executable).parent / "bindery"


@dataclass
class Installation:
    """Where it is, and how to use it as a person at a terminal would."""

    settings: Settings
    environment: dict[str, str]

    def bindery(self, *arguments: str, timeout: float = 400, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BINDERY), *arguments],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str, log: Path, **more: str) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                [str(BINDERY), *arguments], env={**self.environment, **more}, stdout=output, stderr=subprocess.STDOUT
            )

    def rows(self, query: str, database: str | None = None) -> list[tuple[Any, ...]]:
        from dagster_project.warehouse.connection import connect_admin

        with connect_admin(self.settings, database or self.settings.database_name) as connection:
            return connection.execute(query.encode()).fetchall()

    def one(self, query: str, database: str | None = None) -> Any:
        return self.rows(query, database)[0][0]

    def content(self) -> dict[str, tuple[int, int]]:
        """Table -> number of rows and a sum over all their values, of everything in the warehouse."""
        tables = self.rows(
            "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        )
        return {
            f"{schema}.{table}": self.rows(
                f'select count(*), coalesce(sum(hashtext(t::text)::bigint), 0)::bigint from "{schema}"."{table}" t'
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
        for each in (*names.values(), f"{names['bindery']}_template"):
            admin.execute(f'drop database if exists "{each}" with (force)'.encode())
