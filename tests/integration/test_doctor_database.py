"""The doctor at real servers: one that answers, one that is away, a login without rights, a wrong password."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from dagster_project.operations.doctor.database import check_database, judge
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import psycopg

PASSWORD = "kR7-vQ2_mZ9xLp4t"  # pragma: allowlist secret


@pytest.fixture
def visitor(admin: psycopg.Connection[Any]) -> Iterator[str]:
    """A login that may do nothing."""
    name = f"visitor_{os.getpid()}"
    admin.execute(f"create role {name} login password '{PASSWORD}'")
    admin.execute(f"grant connect on database postgres to {name}")
    yield name
    admin.execute(f"revoke connect on database postgres from {name}")
    admin.execute(f"drop role {name}")


def at(settings: Settings, **changes: str) -> Settings:
    assert settings.database_url is not None
    return Settings(database_url=changes["url"], data_dir=settings.data_dir)


def test_a_server_that_is_as_it_should_be(settings: Settings) -> None:
    found = check_database(settings)
    assert [each.status for each in found] == ["ok", "ok"]
    assert [each.check for each in found] == ["database", "pgvector"]


def test_inside_a_container_no_administrator_is_needed(settings: Settings) -> None:
    inside = settings.model_copy(update={"environment": "docker"})
    assert [each.status for each in check_database(inside)] == ["ok", "ok"]


def test_a_server_that_is_away(settings: Settings) -> None:
    (found,) = check_database(at(settings, url="postgresql://me:x@127.0.0.1:1/postgres"))
    assert found.status == "fail"
    assert "firewall" in found.fix


def test_a_login_that_is_refused_or_may_do_nothing(settings: Settings, visitor: str) -> None:
    assert settings.database_url is not None
    where = urlsplit(settings.database_url.get_secret_value())
    (refused,) = check_database(at(settings, url=f"postgresql://{visitor}:no@127.0.0.1:{where.port}/postgres"))
    assert refused.status == "fail"
    assert PASSWORD not in f"{refused}"
    found = check_database(at(settings, url=f"postgresql://{visitor}:{PASSWORD}@127.0.0.1:{where.port}/postgres"))
    assert [each.status for each in found] == ["ok", "ok", "fail"]
    assert "CREATEROLE" in found[2].fix


def test_a_server_that_is_old_or_has_no_pgvector(settings: Settings) -> None:
    found = judge(settings, "db:5432", 15, None, True)
    assert [each.status for each in found] == ["fail", "fail"]
    assert "16 or newer" in found[0].fix
    assert "postgresql-15-pgvector" in found[1].fix


def test_an_embedded_server_that_was_never_started(tmp_path: Path) -> None:
    programs, server = check_database(Settings(data_dir=tmp_path))
    assert (programs.status, "PostgreSQL" in programs.said) == ("ok", True)
    assert (server.status, "the first command makes it" in server.said) == ("ok", True)
    assert not (tmp_path / "postgres").exists(), "looking changes nothing"


def test_the_command_in_an_installation(settings: Settings) -> None:
    bindery = Path(sys.executable).parent / "bindery"
    done = subprocess.run([bindery, "doctor", "--json"], capture_output=True, text=True)
    found = {each["check"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"python", "database", "pgvector", "cards", "passwords", "docker"} <= found.keys()
    assert found["database"]["status"] == "ok"
