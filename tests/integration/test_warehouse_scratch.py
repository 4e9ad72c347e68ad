"""Scratch databases and copies: made from a template, marked, and never the real one."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from dagster_project import warehouse
from dagster_project.settings import Settings
from dagster_project.warehouse.bootstrap import run
from dagster_project.warehouse.connection import WarehouseError, connect_admin


@pytest.fixture
def names(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """Settings, and a name for a scratch database; whatever is made of them is dropped."""
    name = f"{settings.database_name}_s"
    yield settings, name
    with connect_admin(settings) as admin:
        rows = admin.execute("select datname from pg_database where starts_with(datname, %s)", (name[:-1],)).fetchall()
        for (each,) in rows:
            run(admin, [f'drop database "{each}" with (force)'])


def count(settings: Settings, database: str, table: str = "bindery.loads") -> int:
    """Count rows as the loader."""
    with warehouse.connect(settings, "loader", database) as connection:
        row = connection.execute(f"select count(*) from {table}").fetchone()
    assert row is not None
    return int(row[0])


def test_a_scratch_database_is_empty_migrated_and_granted(names: tuple[Settings, str]) -> None:
    settings, name = names
    insert = "insert into bindery.loads (source, kind, status, started_at) values ('s', 'load', 'committed', now())"
    with warehouse.connect(settings, "loader") as connection:
        connection.execute(insert)
    warehouse.create_scratch(settings, name)
    assert count(settings, name) == 0
    with warehouse.connect(settings, "loader", name) as connection:
        connection.execute(insert)
    warehouse.create_scratch(settings, name)
    assert count(settings, name) == 0, "made anew"
    with pytest.raises(warehouse.WarehouseUnavailableError, match="permission denied"):
        warehouse.connect(settings, "dagster", name)
    assert warehouse.drop_scratch(settings, name) is True
    assert warehouse.drop_scratch(settings, name) is False
    assert count(settings, settings.database_name) == 1, "the real one is as it was"


def test_sessions_do_not_keep_a_scratch_database(names: tuple[Settings, str]) -> None:
    settings, name = names
    warehouse.create_scratch(settings, name)
    left = warehouse.connect(settings, "loader", name)
    assert warehouse.drop_scratch(settings, name) is True
    with pytest.raises(psycopg.OperationalError):
        left.execute("select 1")
    left.close()


def test_only_scratch_databases_are_ever_dropped(names: tuple[Settings, str]) -> None:
    settings, name = names
    warehouse.clone_database(settings, name)
    for action in (warehouse.create_scratch, warehouse.drop_scratch):
        with pytest.raises(WarehouseError, match="isn't a scratch database"):
            action(settings, name)
        for real in (settings.database_name, settings.dagster_database, "postgres"):
            with pytest.raises(WarehouseError, match="in use by the platform"):
                action(settings, real)
        with pytest.raises(WarehouseError, match="no database name"):
            action(settings, 'x"; drop database y; --')


def test_a_kill_between_make_and_mark_leaves_nothing_that_sticks(
    names: tuple[Settings, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.warehouse import scratch

    settings, name = names
    with connect_admin(settings) as admin:
        run(admin, [f'create database "{settings.database_name}_making"'])
    warehouse.create_scratch(settings, name)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scratch, "_finish", die)
        with pytest.raises(KeyboardInterrupt):
            warehouse.create_scratch(settings, name)
    warehouse.create_scratch(settings, name)
    assert count(settings, name) == 0


def test_a_changed_release_makes_the_template_anew(
    names: tuple[Settings, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.warehouse import scratch

    settings, name = names
    warehouse.create_scratch(settings, name)
    template = f"{settings.database_name}_template"

    def template_oid() -> object:
        with connect_admin(settings) as admin:
            return admin.execute("select oid from pg_database where datname = %s", (template,)).fetchone()

    before = template_oid()
    warehouse.create_scratch(settings, name)
    assert template_oid() == before
    monkeypatch.setattr(scratch, "head", lambda: "0000-other")
    warehouse.create_scratch(settings, name)
    assert template_oid() != before


def test_a_copy_has_data_and_grants(names: tuple[Settings, str]) -> None:
    settings, name = names
    with warehouse.connect(settings, "loader") as connection:
        connection.execute("create table raw.t as select 1 as n")
    warehouse.clone_database(settings, name)
    with warehouse.connect(settings, "reader", name) as connection:
        assert connection.execute("select n from raw.t").fetchone() == (1,)
    with pytest.raises(WarehouseError, match="already"):
        warehouse.clone_database(settings, name)


def test_a_copy_waits_for_nobody(names: tuple[Settings, str]) -> None:
    settings, name = names
    busy = warehouse.connect(settings, "loader")
    busy.execute("select 1")
    with pytest.raises(WarehouseError, match=r"1 x bindery loader.*--force"):
        warehouse.clone_database(settings, name)
    warehouse.clone_database(settings, name, force=True)
    with pytest.raises(psycopg.OperationalError):
        busy.execute("select 1")
    busy.close()
