"""Backup and restore of an installation: into a fresh Postgres, over content, damaged, killed, in use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project import embedded
from dagster_project.operations.backup.restore import FILLING, REPLACED
from dagster_project.settings import Settings
from tests.integration.installation import Installation, installation

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(300)
BINDERY = Path(sys.executable).parent / "bindery"
EVENTS = "select count(*), coalesce(sum(hashtext(event)::bigint), 0)::bigint from event_logs"


@pytest.fixture(scope="module")
def place(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """One with loads, with refused rows, and with a history in Dagster."""
    with installation(server_settings, admin, tmp_path_factory.mktemp("backup"), "backup") as made:
        script = (
            "from dagster_project.settings import get_settings; from dagster_project.warehouse import ensure_ready\n"
            "from dagster_project.operations.instance import open_instance, prepare_home\n"
            "s = get_settings(); ensure_ready(s)\n"
            "with open_instance(prepare_home(s)): pass"
        )
        subprocess.run([sys.executable, "-c", script], env=made.environment, check=True)
        done = made.quick("run", "gutenberg", "uploads")
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture(scope="module")
def backup(place: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("backups") / "backup.tar"
    done = place.quick("backup", str(file))
    assert done.returncode == 0, done.stderr
    assert "landed objects" in done.stdout
    return file


def content(place: Installation) -> dict[str, Any]:
    found: dict[str, Any] = dict(place.content())
    found.pop("bindery.bootstrap")
    return found | {"events": place.rows(EVENTS, place.settings.dagster_database)}


@pytest.fixture(scope="module")
def fresh(place: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Another machine: a cluster, passwords and folders of its own. Only the sample world is the same."""
    folder = tmp_path_factory.mktemp("fresh")
    for path in [folder, *folder.parents]:
        if path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode | 0o055)  # the server's account gets there
    settings = Settings(data_dir=folder / "data", drop_dir=place.settings.drop_path, environment="test")
    kept = {key: value for key, value in place.environment.items() if not key.startswith("BINDERY_")}
    world = place.settings.data_dir / "sample" / "world.json"
    (folder / "data" / "sample").mkdir(parents=True)
    (folder / "data" / "sample" / "world.json").write_bytes(world.read_bytes())
    environment = {
        **kept,
        "BINDERY_ENV_FILE": "",
        "BINDERY_DATA_DIR": str(folder / "data"),
        "BINDERY_DROP_DIR": str(place.settings.drop_path),
        "BINDERY_GUTENBERG_URL": place.quick("world", "status").stdout.split(": ")[1].split(",")[0],
        "BINDERY_ENVIRONMENT": "test",
    }
    embedded.start(settings, durable=False)
    try:
        yield Installation(settings, environment)
    finally:
        embedded.stop(settings)


def test_a_backup_of_nothing_missing_says_what_is_in_it(place: Installation, backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    done = place.quick("restore", "--check", str(backup))
    assert done.returncode == 0, done.stderr
    assert "is whole" in done.stdout
    again = place.quick("backup", str(backup))
    assert again.returncode == 5
    assert "there already" in again.stderr


def test_no_password_is_in_it(place: Installation, backup: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", backup, "-C", tmp_path], check=True)
    from dagster_project.operations.backup.programs import program

    text = b""
    for key in ("warehouse", "dagster"):
        dump = b"".join(path.read_bytes() for path in sorted(tmp_path.glob(f"{key}.dump.*")))
        text += subprocess.run(
            [program("pg_restore"), "-f", "-"], input=dump, stdout=subprocess.PIPE, check=True
        ).stdout
    assert b"gutenberg__books" in text
    assert b"event_logs" in text
    assert b"CREATE ROLE" not in text
    assert b"SCRAM-SHA-256" not in text
    for file in place.settings.secrets_path.iterdir():
        assert file.read_bytes().strip() not in text, file.name


def test_a_fresh_server_takes_it_and_goes_on_where_it_was(
    place: Installation, fresh: Installation, backup: Path
) -> None:
    before = content(place)
    done = fresh.quick("restore", str(backup))
    assert done.returncode == 0, done.stderr
    assert content(fresh) == before
    databases = {row[0] for row in fresh.rows("select datname from pg_database")}
    assert not [name for name in databases if name.endswith((FILLING, REPLACED))]
    # Its own passwords hold, and the rights are those of a new one.
    for role in ("reader", "loader"):
        shown = fresh.quick("db", "psql", "--role", role, "-Atc", "select count(*) from raw.gutenberg__books")
        assert shown.stdout.strip() == str(before["raw.gutenberg__books"][0]), shown.stderr
    denied = fresh.quick("db", "psql", "--role", "reader", "-Atc", "delete from raw.gutenberg__books")
    assert "permission denied" in denied.stderr
    assert "permission denied" in fresh.quick("db", "psql", "--role", "api", "-Atc", "table bindery.loads").stderr
    closed = fresh.quick("db", "psql", "--role", "loader", "--database", "dagster", "-c", "select 1")
    assert "permission denied" in closed.stderr
    run = fresh.quick("run", "gutenberg", "uploads")
    assert run.returncode == 0, run.stderr
    assert "inserted" not in run.stdout, "what was loaded isn't loaded twice"
    raw = [table for table in before if table.startswith("raw.")]
    assert {table: content(fresh)[table] for table in raw} == {table: before[table] for table in raw}
    replayed = fresh.quick("replay", "gutenberg")
    assert replayed.returncode == 0, "landed bytes came along: " + replayed.stderr
    assert "inserted" not in replayed.stdout


def test_content_is_not_replaced_unasked(fresh: Installation, backup: Path) -> None:
    before = content(fresh)
    done = fresh.quick("restore", str(backup))
    assert done.returncode == 5
    assert "has content" in done.stderr
    assert "--replace" in done.stderr
    assert content(fresh) == before


def test_one_that_is_damaged_changes_nothing(fresh: Installation, backup: Path, tmp_path: Path) -> None:
    before = content(fresh)
    damaged = tmp_path / "damaged.tar"
    changed = bytearray(backup.read_bytes())
    changed[len(changed) // 2] ^= 0xFF
    damaged.write_bytes(changed)
    done = fresh.quick("restore", "--replace", str(damaged))
    assert done.returncode == 5
    assert "the backup is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert content(fresh) == before


def test_nobody_loses_what_they_work_in(fresh: Installation, backup: Path) -> None:
    with fresh.connect():
        done = fresh.quick("restore", "--replace", str(backup))
    assert done.returncode == 5
    assert "1 sessions are open (bindery admin)" in done.stderr


def test_a_killed_restore_leaves_what_was_there_and_can_be_run_again(
    fresh: Installation, place: Installation, backup: Path, tmp_path: Path
) -> None:
    before = content(fresh)
    filling = fresh.settings.database_name + FILLING
    process = fresh.start("restore", "--replace", str(backup), log=tmp_path / "log")
    deadline = time.monotonic() + 60
    while not fresh.one(f"select count(*) from pg_database where datname = '{filling}'", "postgres"):
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert content(fresh) == before
    done = fresh.quick("restore", "--replace", str(backup))
    assert done.returncode == 0, done.stderr
    assert content(fresh) == content(place)


def test_a_killed_backup_leaves_no_file_under_its_name(place: Installation, tmp_path: Path) -> None:
    target = tmp_path / "backups" / "mine.tar"
    target.parent.mkdir()
    process = place.start("backup", str(target), log=tmp_path / "log")
    deadline = time.monotonic() + 60
    while not list(target.parent.iterdir()):
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    done = place.quick("backup", "--no-landing", str(target))
    assert done.returncode == 0, done.stderr
    assert "without landed bytes" in done.stdout
