"""The scratch database of a debug run: made empty by the first step that needs it, shared by the run's other steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.settings import Settings

LOCK = 0x62696E64_64656267
"""Advisory lock while one step makes the database and the others wait."""
OWNER = "bindery.debug_run"
"""Database setting that says which run the scratch database belongs to."""


def ensure_scratch(settings: Settings, run_id: str) -> None:
    """Make the scratch database for a run, once; an earlier run's is dropped.

    Raises:
        WarehouseError: A database of that name is there that isn't scratch.
    """
    from psycopg import sql

    from dagster_project.warehouse import create_scratch
    from dagster_project.warehouse.connection import advisory_lock, connect_admin

    name = settings.debug_database
    with connect_admin(settings) as admin, advisory_lock(admin, LOCK):
        row = admin.execute(
            "select exists (select from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase "
            "where d.datname = %s and s.setrole = 0 and %s = any(s.setconfig))",
            (name, f"{OWNER}={run_id}"),
        ).fetchone()
        if row is not None and row[0]:
            return
        create_scratch(settings, name)
        admin.execute(
            sql.SQL("alter database {} set {} to {}").format(
                sql.Identifier(name), sql.Identifier(*OWNER.split(".")), sql.Literal(run_id)
            )
        )
