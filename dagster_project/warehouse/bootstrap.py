"""Make databases, roles, schemas and grants, as the embedded superuser or as a master user of a managed server.

Everything may be repeated, two processes may do it at once, and a kill at any line is made good by the next call.
Tables of our own are made afterwards, by migrations.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from dagster_project.settings import ROLES, Role, Settings, SettingsError, password_name
from dagster_project.settings.secret_files import write_secret
from dagster_project.warehouse.connection import WarehouseError, advisory_lock, connect_admin
from dagster_project.warehouse.grants import (
    EXTENSION,
    cluster_statements,
    database_statements,
    login,
    schema_statements,
)

if TYPE_CHECKING:
    import psycopg

LOCK = 0x62696E64_0001
"""Advisory lock of whoever changes roles and databases."""
LEAST_VERSION = 160000
BOOKKEEPING = """
create table if not exists bindery.bootstrap (
  id integer primary key check (id = 1), fingerprint text not null, done_at timestamptz not null
)
"""


def bootstrap(settings: Settings) -> None:
    """Make what is missing of roles, passwords, databases, schemas and grants.

    Raises:
        WarehouseError: The server is too old, has no pgvector, or the login may not do something.
        SettingsError: The folder of secrets can't take the generated passwords.
    """
    with connect_admin(settings) as admin, advisory_lock(admin, LOCK):
        check_server(admin)
        prepare_roles(admin, settings)
        ensure_database(admin, settings.database_name, "owner")
        ensure_database(admin, settings.dagster_database, "dagster")
        run(admin, database_statements(settings.database_name))
        run(admin, [f'revoke all on database "{settings.dagster_database}" from public'])
        if settings.database_url is None:
            # Our own server: nobody but the superuser has business in the databases that come with it.
            run(admin, [f"revoke connect on database {name} from public" for name in ("postgres", "template1")])
        prepare_database(settings, settings.database_name)


def check_server(admin: psycopg.Connection[Any]) -> None:
    """Refuse a server that the platform can't work on.

    Raises:
        WarehouseError: It is too old or has no pgvector.
    """
    version = admin.info.server_version
    where = f"the Postgres at {admin.info.host}:{admin.info.port}"
    if version < LEAST_VERSION:
        raise WarehouseError(
            f"{where} is version {version // 10000}; Bindery needs 16 or newer (BINDERY_DATABASE_URL names it)"
        )
    if one(admin, "select count(*) from pg_available_extensions where name = 'vector'") == 0:
        raise WarehouseError(
            f"{where} has no pgvector: install it there (Debian: postgresql-{version // 10000}-pgvector; the image "
            "pgvector/pgvector; RDS has it) and run the command again"
        )


def prepare_roles(admin: psycopg.Connection[Any], settings: Settings) -> None:
    """Make the roles, each with its password; a login that isn't superuser gets the right to act as each of them.

    Raises:
        WarehouseError: The login may not make roles.
    """
    if settings.database_login == "shared":
        check_shared_login(admin)
        return
    existing = {row[0] for row in admin.execute("select rolname from pg_roles where rolname like 'bindery\\_%'")}
    superuser = one(admin, "select rolsuper from pg_roles where rolname = current_user")
    for role in ROLES:
        # The file first: after a kill in between, the next call gives the role the password that is in the file.
        password = ensure_password(settings, role)
        hashed = hashed_password(admin, login(role), password)
        verb = "alter" if login(role) in existing else "create"
        run(
            admin,
            [f"{verb} role {login(role)} login nocreatedb nocreaterole password '{hashed}'"],
            problem=f"the login {admin.info.user!r} of BINDERY_DATABASE_URL can't {verb} the role {login(role)}. Give "
            "it CREATEROLE and CREATEDB, or have an administrator make the roles, grant them to it, and set "
            "BINDERY_DATABASE_LOGIN=shared",
        )
        if not superuser:
            run(admin, [f"grant {login(role)} to current_user with inherit true, set true"])
    run(admin, cluster_statements())


def check_shared_login(admin: psycopg.Connection[Any]) -> None:
    """Refuse a shared login that may not act as every role.

    Raises:
        WarehouseError: Roles are missing or not granted; the message holds the statements for an administrator.
    """
    known = {row[0] for row in admin.execute("select rolname from pg_roles where pg_has_role(oid, 'set')")}
    missing = [login(role) for role in ROLES if login(role) not in known]
    if missing:
        statements = "; ".join(
            f'create role {role} nologin; grant {role} to "{admin.info.user}" with inherit true, set true'
            for role in missing
        )
        raise WarehouseError(
            f"BINDERY_DATABASE_LOGIN=shared, but {admin.info.user!r} may not act as {', '.join(missing)}. An "
            f"administrator runs: {statements}; {'; '.join(cluster_statements())}"
        )


def ensure_password(settings: Settings, role: Role) -> str:
    """Give the role's password; make one and keep it in the folder of secrets where there is none.

    Raises:
        SettingsError: The folder of secrets can't be written.
    """
    found = settings.find_secret(f"POSTGRES_{role.upper()}_PASSWORD")
    if found is not None:
        return found.get_secret_value()
    password = secrets.token_urlsafe(24)
    path = settings.secrets_path / password_name(role)
    try:
        write_secret(path, password)
    except OSError as error:
        raise SettingsError(
            f"no password for the database role {login(role)}, and a generated one can't be kept in {path} "
            f"({error.strerror}): provide that file or POSTGRES_{role.upper()}_PASSWORD, or make the folder writable"
        ) from None
    return password


def hashed_password(admin: psycopg.Connection[Any], user: str, password: str) -> str:
    """Hash as the server would, so that the password itself reaches neither its log nor its statistics."""
    return admin.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()


def ensure_database(admin: psycopg.Connection[Any], name: str, owner: Role) -> None:
    """Make a database that sorts and encodes as everywhere else, if it isn't there.

    Raises:
        WarehouseError: The login may not, or the one that is there has another encoding.
    """
    row = admin.execute(
        "select pg_encoding_to_char(encoding), datcollate from pg_database where datname = %s", (name,)
    ).fetchone()
    if row is None:
        run(
            admin,
            [f"create database \"{name}\" owner {login(owner)} template template0 encoding 'UTF8' locale 'C'"],
            problem=f"the login {admin.info.user!r} can't make the database {name!r}: give it CREATEDB, or have an "
            f"administrator make it: create database {name} owner {login(owner)} template template0 encoding 'UTF8' "
            "locale 'C'",
        )
    elif row[0] != "UTF8":
        raise WarehouseError(f"the database {name!r} has the encoding {row[0]}; Bindery needs UTF8")


def prepare_database(settings: Settings, database: str) -> None:
    """Make schemas, extension and grants inside a warehouse database, and write down that it was done, as one change.

    Raises:
        WarehouseError: The login may not.
    """
    with connect_admin(settings, database) as admin, admin.transaction():
        who = f"the login {admin.info.user!r}"
        run(
            admin,
            [EXTENSION],
            problem=f"{who} may not install pgvector in the database {database!r}; an administrator runs there: "
            "create extension vector with schema public",
        )
        run(admin, schema_statements(), problem=f"{who} can't prepare the database {database!r}")
        run(admin, [BOOKKEEPING, "alter table bindery.bootstrap owner to bindery_owner"])
        admin.execute(
            "insert into bindery.bootstrap values (1, %s, now()) "
            "on conflict (id) do update set fingerprint = excluded.fingerprint, done_at = excluded.done_at",
            (fingerprint(settings),),
        )


def fingerprint(settings: Settings) -> str | None:
    """Describe what bootstrap would make, passwords included; None where a password is not there yet.

    Only the owner may read the stored one: it is salted with all passwords, but they needn't all be strong.
    """
    digest = hashlib.sha256()
    for statement in (
        EXTENSION,
        *cluster_statements(),
        *database_statements("x"),
        *schema_statements(),
        settings.database_login,
    ):
        digest.update(statement.encode() + b"\0")
    if settings.database_login == "own":
        for role in ROLES:
            password: SecretStr | None = settings.find_secret(f"POSTGRES_{role.upper()}_PASSWORD")
            if password is None:
                return None
            digest.update(password.get_secret_value().encode() + b"\0")
    return digest.hexdigest()


def run(connection: psycopg.Connection[Any], statements: list[str], *, problem: str = "") -> None:
    """Run statements of ours, one by one.

    Raises:
        WarehouseError: One isn't allowed; says which, or ``problem``.
    """
    import psycopg

    for statement in statements:
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            raise WarehouseError(f"{problem or statement}: {error.diag.message_primary}") from None


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    """Give the only value of a query."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
