"""Dagster's own command makes the same tables as ours: nothing of the graph hangs on `bindery run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.integration.installation import installation
from tests.soak.undisturbed import TABLES, WHEN

if TYPE_CHECKING:
    import psycopg

DAGSTER = Path(sys.executable).with_name("dagster")


@pytest.mark.timeout(600)
def test_plain_dagster_makes_the_same_tables(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path: Path
) -> None:
    with installation(server_settings, admin, tmp_path / "here", "plain") as place:
        done = place.bindery("run")
        assert done.returncode == 0, done.stdout[-3000:]
        fresh = {"BINDERY_DATABASE_NAME": f"{place.settings.database_name}_fresh"}
        assert place.bindery("db", "start", **fresh).returncode == 0
        words = ["asset", "materialize", "--select", "*", "-m", "dagster_project.definitions"]
        done = place.command(DAGSTER, *words, HOME=str(tmp_path), **fresh)
        assert done.returncode == 0, done.stderr[-5000:]
        content = place.content(fresh["BINDERY_DATABASE_NAME"], TABLES, WHEN)
        assert place.content(None, TABLES, WHEN) == content
        assert content["marts.fct_ratings"][0] > 1000
