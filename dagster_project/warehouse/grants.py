"""Who may do what: schemas with their owners, and each role's privileges, as statements that may be repeated.

Tables of our own (schema ``bindery``, ``raw._quarantine``) get their grants in the migration that makes them; here is
what holds for tables that the loader, dbt and Python assets make later.
"""

from __future__ import annotations

from dagster_project.settings import Role

SCHEMAS: dict[str, Role] = {
    "bindery": "owner",
    "raw": "loader",
    "staging": "transformer",
    "intermediate": "transformer",
    "marts": "transformer",
    "snapshots": "transformer",
    "features": "features",
    "app": "owner",
}
"""Schema -> the role that owns it."""

READERS: dict[str, tuple[Role, ...]] = {
    "raw": ("transformer", "features", "reader"),
    "staging": ("features", "reader"),
    "marts": ("features", "reader", "api"),
    "features": ("reader", "api"),
}
"""Schema -> the roles that may read whatever its owner makes in it."""

CONNECTING: tuple[Role, ...] = ("owner", "loader", "transformer", "features", "reader", "api")
"""Roles that may connect to a warehouse database. Dagster's only knows its own."""
TEMPORARY: tuple[Role, ...] = ("owner", "loader", "transformer", "features")
"""Roles that may make temporary tables: those that write in bulk."""


def login(role: Role) -> str:
    """Give the role's name in the database."""
    return f"bindery_{role}"


def logins(roles: tuple[Role, ...]) -> str:
    """Give several names for a GRANT."""
    return ", ".join(login(role) for role in roles)


def cluster_statements() -> list[str]:
    """Give what holds between roles, in every database of the server."""
    return [
        # A raw column that widens under a dbt view: the loader takes on the transformer's role for as long as it drops
        # and makes the view again. It doesn't inherit its rights meanwhile.
        "grant bindery_transformer to bindery_loader with inherit false, set true",
    ]


def database_statements(database: str) -> list[str]:
    """Give who may connect to a warehouse database; not copied with a template, so said for each."""
    return [
        f'revoke all on database "{database}" from public',
        f'grant connect on database "{database}" to {logins(CONNECTING)}',
        f'grant temporary on database "{database}" to {logins(TEMPORARY)}',
        f"alter database \"{database}\" set timezone to 'UTC'",
    ]


EXTENSION = "create extension if not exists vector with schema public"


def schema_statements() -> list[str]:
    """Give what holds inside a warehouse database."""
    statements = [
        "revoke all on schema public from public",
        f"grant usage on schema public to {logins(CONNECTING)}",
    ]
    for schema, role in SCHEMAS.items():
        statements += [
            f"create schema if not exists {schema} authorization {login(role)}",
            f"alter schema {schema} owner to {login(role)}",
        ]
    for schema, readers in READERS.items():
        to, owner = logins(readers), login(SCHEMAS[schema])
        statements += [
            f"grant usage on schema {schema} to {to}",
            f"grant select on all tables in schema {schema} to {to}",
            f"alter default privileges for role {owner} in schema {schema} grant select on tables to {to}",
        ]
    writing = "select, insert, update, delete on"
    statements += [
        # Our own tables: made by migrations as the owner, each granted where it is made.
        "grant usage on schema bindery to bindery_loader, bindery_transformer, bindery_reader",
        "grant usage, create on schema raw to bindery_owner",
        # What people write through the API.
        "grant usage on schema app to bindery_api",
        f"grant {writing} all tables in schema app to bindery_api",
        f"alter default privileges for role bindery_owner in schema app grant {writing} tables to bindery_api",
        "alter default privileges for role bindery_owner in schema app grant usage on sequences to bindery_api",
    ]
    return statements
