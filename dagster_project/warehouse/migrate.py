"""Bring a warehouse database's own tables to the newest version.

The versions are in ``migrations/versions``, plain SQL each, run by Alembic as the owner role. Alembic is imported only
where something is to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.settings import Settings
from dagster_project.warehouse.connection import WarehouseError, advisory_lock, connect

if TYPE_CHECKING:
    import psycopg

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x62696E64_0002
"""Advisory lock of whoever migrates, per database."""


def head() -> str:
    """Give the newest version without importing Alembic: files are named ``NNNN_words.py`` after their revision."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).split("_", 1)[0]


def migrate(settings: Settings, database: str | None = None) -> list[str]:
    """Run the versions that a database doesn't have yet, in one transaction.

    Returns:
        The versions run, oldest first; empty where there was nothing to do.

    Raises:
        WarehouseError: A newer release migrated it.
    """
    with connect(settings, "owner", database, autocommit=True) as connection:
        before = current(connection)
        if before == head():
            return []
        with advisory_lock(connection, LOCK):
            before = current(connection)
            if before == head():
                return []
            check_known(before, connection.info.dbname)
            _upgrade(settings, database)
            return [version for version in versions() if before is None or version > before]


def versions() -> list[str]:
    """List every version, oldest first."""
    return sorted(path.name.split("_", 1)[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def check_known(version: str | None, database: str) -> None:
    """Refuse a database that is ahead of this code.

    Raises:
        WarehouseError: It is.
    """
    if version is not None and version not in versions():
        raise WarehouseError(
            f"the database {database!r} is at version {version}, which this release doesn't know (newest: {head()}): "
            "a newer one migrated it. Update Bindery"
        )


def current(connection: psycopg.Connection[Any]) -> str | None:
    """Give the database's version, or None before the first migration."""
    import psycopg

    try:
        row = connection.execute("select version_num from bindery.alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if row is None else str(row[0])


def _upgrade(settings: Settings, database: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    # The connection comes from us, so that no URL with a password goes through Alembic's configuration.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connect(settings, "owner", database), poolclass=NullPool
    )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
