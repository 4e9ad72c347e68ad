"""Databases beside the warehouse: scratch ones that come and go, and copies.

A scratch database carries a mark, and nothing without it is ever dropped here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster_project.settings import Settings
from dagster_project.warehouse.bootstrap import LOCK, ensure_database, fingerprint, prepare_database, run
from dagster_project.warehouse.connection import WarehouseError, advisory_lock, connect_admin
from dagster_project.warehouse.grants import database_statements, login
from dagster_project.warehouse.migrate import head, migrate

if TYPE_CHECKING:
    import psycopg

MARK = "bindery scratch"
TEMPLATE_MARK = "bindery template"
NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")


def create_scratch(settings: Settings, name: str) -> None:
    """Make an empty scratch database, bootstrapped and migrated; one of that name is dropped first.

    Copied from a template that is made on first use and again after each change of release. ``ensure_ready`` comes
    before: roles must exist.

    Raises:
        WarehouseError: The name is taken by a database that isn't scratch.
    """
    with connect_admin(settings) as admin, advisory_lock(admin, LOCK):
        _drop(admin, settings, name, MARK)
        template = _ensure_template(admin, settings)
        _copy(admin, settings, template, name, MARK)


def drop_scratch(settings: Settings, name: str) -> bool:
    """Drop a scratch database and end the sessions in it.

    Returns:
        False where there was none.

    Raises:
        WarehouseError: The name belongs to a database that isn't scratch.
    """
    with connect_admin(settings) as admin, advisory_lock(admin, LOCK):
        return _drop(admin, settings, name, MARK)


def clone_database(settings: Settings, name: str, *, force: bool = False) -> None:
    """Copy the warehouse to a new database on the same server, data and grants included.

    Args:
        settings: Say which warehouse.
        name: Of the new database.
        force: End the sessions in the warehouse, whose work is rolled back; otherwise they are in the way.

    Raises:
        WarehouseError: The name is taken or no name, or somebody works in the warehouse.
    """
    import psycopg

    _check_name(settings, name)
    source = settings.database_name
    with connect_admin(settings) as admin, advisory_lock(admin, LOCK):
        if force:
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", (source,)
            ).fetchall()
        # Postgres itself would wait five seconds before it says so.
        _check_unused(admin, source)
        try:
            _copy(admin, settings, source, name, "bindery clone")
        except psycopg.errors.DuplicateDatabase:
            raise WarehouseError(f"there is a database {name!r} already: choose another name") from None
        except psycopg.errors.ObjectInUse:
            _check_unused(admin, source)
            raise


def _check_unused(admin: psycopg.Connection[Any], database: str) -> None:
    """Refuse to copy a database that somebody is connected to.

    Raises:
        WarehouseError: Names who is.
    """
    users = admin.execute(
        "select coalesce(nullif(application_name, ''), 'unnamed'), count(*) from pg_stat_activity "
        "where datname = %s and backend_type = 'client backend' group by 1 order by 1",
        (database,),
    ).fetchall()
    if users:
        listed = ", ".join(f"{count} x {who}" for who, count in users)
        raise WarehouseError(
            f"{database!r} can't be copied while somebody is connected to it ({listed}): stop that, or use --force"
        )


def _check_name(settings: Settings, name: str) -> None:
    if not NAME.match(name):
        raise WarehouseError(f"{name!r} is no database name: lower-case letters, digits and _, at most 63")
    making = f"{settings.database_name}_making"
    if name in {settings.database_name, settings.dagster_database, making, "postgres", "template0", "template1"}:
        raise WarehouseError(f"{name!r} is in use by the platform: choose another name")


def _comment(admin: psycopg.Connection[Any], name: str) -> tuple[bool, str]:
    """Say whether a database exists, and what its comment is."""
    row = admin.execute(
        "select coalesce(shobj_description(oid, 'pg_database'), '') from pg_database where datname = %s", (name,)
    ).fetchone()
    return row is not None, "" if row is None else row[0]


def _drop(admin: psycopg.Connection[Any], settings: Settings, name: str, mark: str) -> bool:
    _check_name(settings, name)
    exists, comment = _comment(admin, name)
    if exists and not comment.startswith(mark):
        raise WarehouseError(f"the database {name!r} isn't a scratch database: it is not dropped")
    if exists:
        run(admin, [f'drop database if exists "{name}" with (force)'])
    return exists


def _ensure_template(admin: psycopg.Connection[Any], settings: Settings) -> str:
    name = f"{settings.database_name}_template"
    expected = f"{TEMPLATE_MARK} {head()} {(fingerprint(settings) or '')[:16]}"
    exists, comment = _comment(admin, name)
    if exists and comment == expected:
        return name
    if exists:
        _drop(admin, settings, name, TEMPLATE_MARK)
    with _making(admin, settings) as draft:
        ensure_database(admin, draft, "owner")
        run(admin, database_statements(draft))
        prepare_database(settings, draft)
        migrate(settings, draft)
        _finish(admin, draft, name, expected)
    return name


def _copy(admin: psycopg.Connection[Any], settings: Settings, template: str, name: str, mark: str) -> None:
    with _making(admin, settings) as draft:
        run(admin, [f'create database "{draft}" owner {login("owner")} template "{template}" strategy wal_log'])
        run(admin, database_statements(draft))
        _finish(admin, draft, name, mark)


@contextlib.contextmanager
def _making(admin: psycopg.Connection[Any], settings: Settings) -> Iterator[str]:
    """Give the name under which a database is made, until it has its mark: what a kill leaves there is ours to drop."""
    draft = f"{settings.database_name}_making"
    run(admin, [f'drop database if exists "{draft}" with (force)'])
    try:
        yield draft
    finally:
        run(admin, [f'drop database if exists "{draft}" with (force)'])


def _finish(admin: psycopg.Connection[Any], draft: str, name: str, mark: str) -> None:
    run(admin, [f"comment on database \"{draft}\" is '{mark}'", f'alter database "{draft}" rename to "{name}"'])
