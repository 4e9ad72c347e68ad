"""``bindery db`` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dagster_project.cli.main import main
from dagster_project.settings import Settings
from tests.integration.embedded_places import place


def bindery(*words: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["db", *words], catch_exceptions=False)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory of its own, in which nothing runs yet."""
    with place() as data_dir:
        monkeypatch.setenv("BINDERY_DATA_DIR", str(data_dir))
        yield data_dir


def test_a_day_with_the_database(own: Path) -> None:
    absent = bindery("status")
    assert absent.exit_code == 1
    assert "embedded Postgres: absent" in absent.output
    assert not own.exists()

    assert "`bindery db start`" in bindery("url").output
    started = bindery("start")
    assert started.exit_code == 0
    assert "started on 127.0.0.1:" in started.output
    assert "was running" in bindery("start").output
    status = bindery("status")
    assert status.exit_code == 0
    assert "running" in status.output
    assert "tables    version" in status.output
    assert "bindery db migrate" not in status.output
    assert "nothing to do" in bindery("migrate").output

    hidden, shown = bindery("url", "--role", "loader"), bindery("url", "--role", "loader", "--show-password")
    password = (own / "secrets" / "postgres_loader_password").read_text().strip()
    assert password not in hidden.output
    assert f"bindery_loader:{password}@127.0.0.1:" in shown.output
    assert hidden.output.strip().endswith("/bindery")

    copied = bindery("clone", "bindery_copy")
    assert copied.exit_code == 0
    assert "BINDERY_DATABASE_NAME=bindery_copy" in copied.output
    again = bindery("clone", "bindery_copy")
    assert again.exit_code == 5
    assert "choose another name" in again.output

    assert bindery("stop").output == "stopped\n"
    assert bindery("stop").output == "it wasn't running\n"
    assert bindery("status").exit_code == 1


def psql(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``bindery db psql``, which becomes another program, as a program."""
    code = "import sys; from dagster_project.cli.main import main; sys.argv[0] = 'bindery'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "db", "psql", *words], capture_output=True, text=True, timeout=60
    )


@pytest.mark.usefixtures("settings")
def test_psql_opens_the_warehouse_as_a_role() -> None:
    done = psql("-At", "-c", "select current_user || ' ' || current_setting('is_superuser')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "bindery_reader off\n", "")
    refused = psql("-At", "-c", "create table raw.t (n int)")
    assert "permission denied" in refused.stderr
    assert psql("--role", "loader", "-At", "-c", "create table raw.t (n int)").returncode == 0
    other = psql("--role", "dagster", "-At", "-c", "select current_database()")
    assert other.stdout == "dagster\n"


def test_a_server_that_is_somebody_elses_is_not_stopped(settings: Settings) -> None:
    done = bindery("stop")
    assert done.exit_code == 1
    assert "BINDERY_DATABASE_URL" in done.output
    status = bindery("status")
    assert status.exit_code == 0
    assert f"database  {settings.database_name}" in status.output
