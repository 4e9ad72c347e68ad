"""``bindery db``: the database server and the warehouse in it, from a terminal.

Words and options only; what is done is in ``embedded`` and ``warehouse``.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import click

from dagster_project.settings import ROLES, Role, Settings, get_settings

if TYPE_CHECKING:
    from pydantic import SecretStr

role_option = click.option(
    "--role",
    type=click.Choice(ROLES),
    default="reader",
    show_default=True,
    help="Whose rights: reader reads all tables, loader writes raw, transformer is dbt's, owner migrates.",
)
database_option = click.option("--database", metavar="NAME", help="Another database than the role's own.")


@click.group()
def db() -> None:
    """Start, stop, look into and copy the database.

    With BINDERY_DATABASE_URL the server is somebody else's: start prepares the databases in it, stop leaves it alone.
    """


@db.command()
def start() -> None:
    """Start the embedded Postgres where needed, and bring databases, roles and tables up to date."""
    from dagster_project import warehouse

    settings = get_settings()
    if settings.database_url is None:
        from dagster_project import embedded

        info = embedded.start(settings)
        click.echo(f"Postgres {info.version} {'started' if info.started else 'was running'} on 127.0.0.1:{info.port}")
    warehouse.ensure_ready(settings)
    click.echo(f"database {settings.database_name} is ready: `bindery db psql` opens it")


@db.command()
def stop() -> None:
    """Stop the embedded Postgres. Open transactions are rolled back; what was committed stays."""
    from dagster_project import embedded

    settings = get_settings()
    if settings.database_url is not None:
        raise click.ClickException("the server is the one BINDERY_DATABASE_URL names; Bindery doesn't stop it")
    click.echo("stopped" if embedded.stop(settings) else "it wasn't running")


@db.command()
def status() -> None:
    """Say which server is meant, whether it answers, and what is in it. Exit code 1 when it doesn't answer."""
    settings = get_settings()
    if settings.database_url is None:
        from dagster_project import embedded

        server = embedded.status(settings)
        version = f" {server.version}" if server.version else ""
        click.echo(f"server    embedded Postgres{version}: {server.state}")
        if server.pid is not None:
            click.echo(f"listens   127.0.0.1:{server.port} (pid {server.pid})")
        click.echo(f"files     {server.data_dir}")
        if not server.data_dir.is_relative_to(settings.data_dir.resolve()):
            click.echo(
                f"          not in {settings.data_dir}, which the account {settings.embedded_user!r} can't enter. "
                f"The tables are there; to delete them stop the server and delete {server.data_dir.parent}"
            )
        click.echo(f"log       {server.log}")
        if server.state != "running":
            raise SystemExit(1)
    _show_contents(settings)


def _show_contents(settings: Settings) -> None:
    from dagster_project import warehouse
    from dagster_project.warehouse.migrate import current, head

    with warehouse.connect(settings, "owner", autocommit=True) as connection:
        if settings.database_url is not None:
            version = connection.info.server_version // 10000
            click.echo(f"server    Postgres {version} at {connection.info.host}:{connection.info.port}")
        size = connection.execute("select pg_size_pretty(pg_database_size(current_database()))").fetchone()
        sessions = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchone()
        version_now = current(connection)
    assert size is not None
    assert sessions is not None
    newest = "" if version_now == head() else f", the newest is {head()}: `bindery db migrate`"
    click.echo(f"database  {settings.database_name}: {size[0]}, {sessions[0]} other sessions")
    click.echo(f"tables    version {version_now or 'none'}{newest}")


@db.command()
@role_option
@database_option
@click.option("--show-password", is_flag=True, help="Put the password into the URL: it lands where you print it.")
def url(role: Role, database: str | None, show_password: bool) -> None:
    """Print the URL with which a role connects, without its password unless asked."""
    dsn = get_settings().dsn(role, database)
    click.echo(dsn.get_secret_value() if show_password else without_password(dsn))


def without_password(dsn: SecretStr) -> str:
    """Give the URL with the password left out."""
    scheme, _, rest = dsn.get_secret_value().partition("://")
    authority, at, tail = rest.rpartition("@")
    return f"{scheme}://{authority.partition(':')[0]}{at}{tail}"


@db.command(context_settings={"ignore_unknown_options": True})
@role_option
@database_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(role: Role, database: str | None, arguments: tuple[str, ...]) -> None:
    """Open psql as a role; ARGUMENTS go to psql: `bindery db psql -c "select 1"`."""
    from dagster_project import warehouse
    from dagster_project.embedded.binaries import wheel_folder
    from dagster_project.embedded.errors import EmbeddedError
    from dagster_project.settings import child_environment

    settings = get_settings()
    warehouse.ensure_ready(settings)
    try:
        program: str | None = str(wheel_folder() / "psql")
    except EmbeddedError:
        program = shutil.which("psql")
    if program is None:
        raise click.ClickException("there is no psql: neither the wheel's (`uv sync`) nor one in PATH")
    dsn = settings.dsn(role, database)
    password = settings.find_secret(f"POSTGRES_{role.upper()}_PASSWORD")
    # The password goes through the environment: a command line is there for everybody to read.
    own = settings.database_login == "own"
    environment = child_environment({"PGPASSWORD": password.get_secret_value()} if own and password else {})
    shown = without_password(dsn) if own else dsn.get_secret_value()
    os.execve(program, [program, "-d", shown, *arguments], environment)  # noqa: S606 - psql takes over the terminal


@db.command()
def migrate() -> None:
    """Bring databases, roles, passwords and our own tables to this release. May be repeated."""
    from dagster_project.warehouse.bootstrap import bootstrap
    from dagster_project.warehouse.migrate import head
    from dagster_project.warehouse.migrate import migrate as run_migrations

    settings = get_settings()
    if settings.database_url is None:
        from dagster_project import embedded

        embedded.start(settings)
    bootstrap(settings)
    ran = run_migrations(settings)
    click.echo(f"ran {', '.join(ran)}" if ran else f"nothing to do: {settings.database_name} is at {head()}")


@db.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="End the sessions in the warehouse; their open work is rolled back.")
def clone(name: str, force: bool) -> None:
    """Copy the warehouse to a new database NAME on the same server, to work on without touching the real one."""
    from dagster_project import warehouse

    settings = get_settings()
    warehouse.ensure_ready(settings)
    warehouse.clone_database(settings, name, force=force)
    click.echo(f"{settings.database_name} copied to {name}: BINDERY_DATABASE_NAME={name} works on the copy")
