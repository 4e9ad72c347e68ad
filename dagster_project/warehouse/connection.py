"""Connections to the warehouse, as one of its roles or as the login that administers it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from dagster_project.settings import Role, Settings

if TYPE_CHECKING:
    import psycopg

CONNECT_SECONDS = 15
SESSION = "-c timezone=UTC -c datestyle=ISO,MDY -c intervalstyle=postgres"
"""Text that Postgres gives means the same whatever the server's and the user's own settings are."""


class WarehouseError(Exception):
    """The warehouse refuses something, in words that say what to do."""

    exit_code = 5


class WarehouseUnavailableError(WarehouseError):
    """Nothing answers, or the login is refused. May pass."""

    transient = True


def connect(
    settings: Settings, role: Role, database: str | None = None, *, autocommit: bool = False
) -> psycopg.Connection[Any]:
    """Open a connection as a role; time zone UTC.

    Args:
        settings: Say which server, and hold the role's password.
        role: Whose rights the connection has.
        database: Another database than the role's own.
        autocommit: Each statement by itself, instead of a transaction until ``commit``.

    Raises:
        MissingSettingError: The role's password is not there.
        WarehouseUnavailableError: The server can't be reached or refuses the login.
    """
    return open_connection(settings.dsn(role, database), f"bindery {role}", autocommit=autocommit)


def connect_admin(settings: Settings, database: str | None = None) -> psycopg.Connection[Any]:
    """Open a connection, in autocommit, as the login that makes roles and databases.

    Raises:
        WarehouseUnavailableError: The server can't be reached or refuses the login.
    """
    return open_connection(settings.admin_dsn(database), "bindery admin", autocommit=True)


def open_connection(dsn: SecretStr, name: str, *, autocommit: bool) -> psycopg.Connection[Any]:
    """Open a connection with a URL, under a name that shows in ``pg_stat_activity``.

    Raises:
        WarehouseUnavailableError: The server can't be reached or refuses the login.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(dsn.get_secret_value())
    except psycopg.ProgrammingError as error:
        raise WarehouseError(f"BINDERY_DATABASE_URL isn't a Postgres URL: {error}") from None
    parts["options"] = f"{SESSION} {parts.get('options') or ''}".strip()
    parts.setdefault("connect_timeout", CONNECT_SECONDS)
    parts["application_name"] = name
    try:
        return psycopg.connect(autocommit=autocommit, **parts)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split()).rstrip(".")
        hint = "" if "authentication" in said else ". `bindery db start` starts the embedded one"
        raise WarehouseUnavailableError(f"no connection to Postgres as {parts.get('user')}: {said}{hint}") from error


@contextlib.contextmanager
def advisory_lock(connection: psycopg.Connection[Any], key: int) -> Iterator[None]:
    """Hold a lock of the session's database; it goes with the session, however that ends."""
    connection.execute("select pg_advisory_lock(%s)", (key,))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(%s)", (key,))
