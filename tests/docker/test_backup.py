"""Backup of the running platform, and its restore: into a new stack of database alone, and over the running one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.stack import FINISHED, Stack, free_port, wait_for
from tests.run import ROOT

pytestmark = pytest.mark.timeout(900)
SCHEMAS = "'bindery', 'raw', 'snapshots', 'staging', 'intermediate', 'marts', 'features', 'app'"
OWN = {"bindery.bootstrap"}
"""What each server writes down for itself."""


def script(name: str, stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    files = " ".join(f"-f {path}" for path in stack.files)
    return subprocess.run(
        [ROOT / "deploy" / "backup" / name, *words],
        env={**stack.environment, "COMPOSE": f"docker compose {files}"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def content(stack: Stack) -> dict[str, Any]:
    """Table -> rows, and a sum over all of their values."""
    tables = stack.rows(f"select schemaname, tablename from pg_tables where schemaname in ({SCHEMAS})")
    parts = [
        f"select '{name}' as name, count(*) as n, coalesce(sum(hashtext(t::text)::bigint), 0) as total from {name} t"
        for name in (f"{schema}.{table}" for schema, table in tables)
        if name not in OWN
    ]
    return {name: (rows, total) for name, rows, total in stack.rows(" union all ".join(parts))}


def quiet(stack: Stack) -> None:
    wait_for("quiet", 240, lambda: stack.runs() and all(run["status"] in FINISHED for run in stack.runs()), 1)


def code_is_loaded(stack: Stack) -> bool:
    query = """query { workspaceOrError { ... on Workspace { locationEntries {
      name locationOrLoadError { __typename } } } } }"""
    entries = stack.graphql(query)["workspaceOrError"]["locationEntries"]
    return {"name": "bindery", "locationOrLoadError": {"__typename": "RepositoryLocation"}} in entries


@pytest.fixture(scope="module")
def backup(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, figures: dict[str, str]
) -> tuple[Path, dict[str, Any]]:
    """A backup, and what was in the tables."""
    file = tmp_path_factory.mktemp("backup") / "backup.tar"
    quiet(stack)
    before = content(stack)
    done = script("backup.sh", stack, str(file))
    assert done.returncode == 0, done.stderr
    figures["backup of the stack"] = f"{file.stat().st_size / 1e6:.1f} MB"
    assert content(stack) == before
    return file, before


@pytest.fixture(scope="module")
def fresh(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Another installation on this engine; nothing of it is up."""
    made = Stack(f"{stack.project}r", free_port(), tmp_path_factory.mktemp("fresh"))
    made.drop.mkdir()
    try:
        yield made
    finally:
        made.remove()


def test_it_is_whole_and_private(stack: Stack, backup: tuple[Path, dict[str, Any]]) -> None:
    file, _ = backup
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(file.parent.glob("*.partial*"))
    text = file.read_bytes()
    for volume in ("secrets", "secrets-admin"):
        for name, value in stack.secrets(volume).items():
            assert value.strip().encode() not in text, name
    again = script("backup.sh", stack, str(file))
    assert again.returncode == 5
    assert "there already" in again.stderr


def test_one_that_is_damaged_makes_nothing(fresh: Stack, backup: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar"
    text = bytearray(backup[0].read_bytes())
    text[len(text) // 2] ^= 0xFF
    damaged.write_bytes(text)
    done = script("restore.sh", fresh, str(damaged))
    assert done.returncode != 0
    assert "the backup is damaged" in done.stderr
    assert fresh.rows("select datname from pg_database where datname like '%\\_\\_%'") == []


def test_a_new_stack_takes_it(fresh: Stack, backup: tuple[Path, dict[str, Any]]) -> None:
    file, before = backup
    done = script("restore.sh", fresh, str(file))
    assert done.returncode == 0, done.stderr
    assert content(fresh) == before
    assert fresh.rows("select datname from pg_database where datname like '%\\_\\_%'") == []
    assert fresh.rows("select count(*) > 0 from runs", "dagster") == [[True]]
    # Its own password opens it, and the landed bytes came along: loading them again changes nothing.
    said = fresh.compose("run", "--rm", "-T", "--no-deps", "backup", "bindery", "replay", "gutenberg")
    assert "rows read" in said
    assert "inserted" not in said
    assert "updated" not in said


def test_content_is_not_replaced_unasked(fresh: Stack, backup: tuple[Path, dict[str, Any]]) -> None:
    before = content(fresh)
    done = script("restore.sh", fresh, str(backup[0]))
    assert done.returncode != 0
    assert "has content" in done.stderr
    assert content(fresh) == before


@pytest.mark.soak
def test_the_running_platform_is_put_back_and_goes_on(stack: Stack, backup: tuple[Path, dict[str, Any]]) -> None:
    file, before = backup
    quiet(stack)
    stack.psql("postgres", stack.superuser_password, "delete from raw.gutenberg__books")
    assert content(stack) != before
    done = script("restore.sh", stack, str(file), "--replace")
    assert done.returncode == 0, done.stderr
    kept = {table: value for table, value in before.items() if table.startswith(("raw.", "marts."))}
    now = content(stack)
    assert {table: now[table] for table in kept} == kept
    wait_for("every service healthy", 120, stack.healthy)
    wait_for("the UI answers", 60, stack.answers)
    wait_for("the code location", 90, lambda: code_is_loaded(stack))
    quiet(stack)
    assert stack.finished(stack.launch("pipeline"), 240) == "SUCCESS"
