"""One call before any work: a server runs, and the warehouse in it is as this release expects it."""

from __future__ import annotations

from dagster_project.settings import MissingSettingError, Settings
from dagster_project.warehouse.bootstrap import bootstrap, fingerprint
from dagster_project.warehouse.connection import WarehouseUnavailableError, connect
from dagster_project.warehouse.migrate import head, migrate


def ensure_ready(settings: Settings) -> None:
    """Start the embedded server where no other is named, then make what is missing of databases, roles and tables.

    Costs one connection and one query when all is done.

    Raises:
        EmbeddedError: The embedded server can't be started.
        WarehouseError: The server can't be used as it is.
        SettingsError: A setting is wrong.
    """
    if settings.database_url is None:
        from dagster_project import embedded

        embedded.start(settings)
    elif not may_prepare(settings):
        return
    done, version = _state(settings)
    if not done:
        bootstrap(settings)
    if not done or version != head():
        migrate(settings)


def may_prepare(settings: Settings) -> bool:
    """Tell whether the database URL names a login at all.

    In the platform's containers it doesn't: services, runs and steps have their roles' passwords and no more, and the
    service `migrate` has prepared everything before they started.
    """
    from psycopg.conninfo import conninfo_to_dict

    url = settings.admin_dsn().get_secret_value()
    return not settings.in_containers or bool(conninfo_to_dict(url).get("user"))


def _state(settings: Settings) -> tuple[bool, str | None]:
    """Ask the database whether bootstrap was done as this release would do it, and for its version."""
    import psycopg

    expected = fingerprint(settings)
    if expected is None:
        return False, None
    try:
        with connect(settings, "owner", autocommit=True) as connection:
            row = connection.execute(
                "select b.fingerprint, v.version_num, exists (select from pg_database where datname = %s) "
                "from bindery.bootstrap b, bindery.alembic_version v",
                (settings.dagster_database,),
            ).fetchone()
    except (WarehouseUnavailableError, MissingSettingError, psycopg.errors.UndefinedTable):
        # Also a password that the role doesn't have yet. If the server is away, bootstrap will say so.
        return False, None
    return row is not None and row[0] == expected and row[2], None if row is None else row[1]
