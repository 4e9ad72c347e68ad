"""The database: whether it answers, which version it is, and whether it has pgvector. Starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.operations.doctor.finding import Finding, fail, ok

if TYPE_CHECKING:
    from dagster_project.settings import Settings

LEAST = 16


def check_database(settings: Settings) -> list[Finding]:
    """Look at the server that the settings name: the embedded one, or somebody else's."""
    if settings.database_url is not None:
        return check_server(settings)
    from dagster_project import embedded
    from dagster_project.embedded.errors import EmbeddedError

    try:
        status = embedded.status(settings)
        programs = check_programs(settings)
    except (EmbeddedError, OSError) as error:
        return [fail("database", str(error), "see docs/runbooks/postgres-does-not-start.md")]
    if status.state == "running":
        return [programs, *check_server(settings)]
    if status.state == "starting":
        return [programs, fail("database", f"starts or recovers (pid {status.pid})", f"wait; its log is {status.log}")]
    said = (
        "not made yet: the first command makes it"
        if status.state == "absent"
        else "stopped: the next command starts it"
    )
    return [programs, ok("database", f"embedded, {said}")]


def check_programs(settings: Settings) -> Finding:
    """Tell whether the embedded server's programs run on this machine, as the account that they will run as."""
    from dagster_project.embedded.account import run_as, unprivileged_account
    from dagster_project.embedded.binaries import ENVIRONMENT, wheel_folder
    from dagster_project.embedded.errors import EmbeddedError

    try:
        # As ourselves: where another account may not enter the wheel's folder, a copy is made at the start.
        unprivileged_account(settings.embedded_user)
        program = wheel_folder() / "postgres"
        done = run_as(None, [str(program), "--version"], env=ENVIRONMENT, timeout=30)
    except (EmbeddedError, OSError) as error:
        return fail("postgres", str(error), "`make install`, or set BINDERY_DATABASE_URL to a Postgres with pgvector")
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        return fail(
            "postgres",
            f"{program} doesn't run here: {said}",
            "set BINDERY_DATABASE_URL to a Postgres >= 16 with pgvector instead",
        )
    return ok("postgres", f"{done.stdout.strip()} (embedded)")


def check_server(settings: Settings) -> list[Finding]:
    """Connect as the login that administers the server, and ask it for version and pgvector."""
    from dagster_project.settings import SettingsError
    from dagster_project.warehouse.connection import WarehouseError, connect, connect_admin

    own = settings.database_url is None
    fix = (
        "`bindery db status` and docs/runbooks/postgres-does-not-start.md"
        if own
        else ("check host, port, login and password in BINDERY_DATABASE_URL, and whether a firewall stands between")
    )
    try:
        # The administrator's login isn't in the platform's containers.
        inside = settings.in_containers
        with connect(settings, "reader", autocommit=True) if inside else connect_admin(settings) as connection:
            where = f"{connection.info.host}:{connection.info.port}"
            version = connection.info.server_version // 10000
            row = connection.execute(
                "select default_version from pg_available_extensions where name = 'vector'"
            ).fetchone()
            rights = connection.execute(
                "select rolsuper or (rolcreaterole and rolcreatedb) from pg_roles where rolname = current_user"
            ).fetchone()
    except (WarehouseError, SettingsError) as error:
        return [fail("database", str(error), fix)]
    may_make = inside or (rights is not None and bool(rights[0]))
    return judge(settings, where, version, str(row[0]) if row else None, may_make)


def judge(settings: Settings, where: str, version: int, vector: str | None, may_make: bool) -> list[Finding]:
    """Judge what a server said of itself."""
    found = [
        ok("database", f"Postgres {version} answers at {where}")
        if version >= LEAST
        else fail("database", f"Postgres {version} at {where} is too old", f"use {LEAST} or newer")
    ]
    found.append(
        ok("pgvector", vector)
        if vector
        else fail(
            "pgvector",
            f"not there at {where}",
            f"install it there (Debian: postgresql-{version}-pgvector; the image pgvector/pgvector; RDS has it)",
        )
    )
    if settings.database_login == "own" and not may_make:
        found.append(
            fail(
                "rights",
                "the login of BINDERY_DATABASE_URL may not make roles and databases",
                "give it CREATEROLE and CREATEDB; or an administrator makes them, and BINDERY_DATABASE_LOGIN=shared",
            )
        )
    return found
