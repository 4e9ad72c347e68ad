"""Bringing a backup back: into databases beside those that are there, which take their place at the very end, together.

Killed anywhere before that, what was there is untouched, and the next try begins anew; killed after it, only the
replaced databases are left over, and the next restore removes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dagster_project.operations.backup import BackupError
from dagster_project.operations.backup.archive import Landing, Manifest, dump_of, put_landing, verify
from dagster_project.operations.backup.make import databases, landing_folder
from dagster_project.operations.backup.programs import restore as fill

if TYPE_CHECKING:
    import psycopg

    from dagster_project.settings import Settings

FILLING, REPLACED = "__restoring", "__replaced"
FILLED = {"warehouse": "bindery.alembic_version", "dagster": "public.runs"}
ATTEMPTS = 20
CONTENT = """
select coalesce(string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname), '')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and pg_relation_size(c.oid) > 0
and case when n.nspname = 'public' then c.relname in ('runs', 'event_logs', 'asset_keys')
         else n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
              and c.relname not in ('bootstrap', 'alembic_version') end
"""
"""Tables that somebody has written to. What an empty installation writes into its own books doesn't count."""
SESSIONS = """
select coalesce(string_agg(distinct coalesce(nullif(application_name, ''), usename), ', '), ''), count(*)
from pg_stat_activity where datname = any(%s) and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


def restore(
    settings: Settings,
    path: Path,
    *,
    replace: bool,
    landing: bool = True,
    say: Callable[[str], None] = lambda _line: None,
) -> Manifest:
    """Restore a backup into the server that the settings name.

    Args:
        settings: Say which installation; its server runs and has the roles.
        path: The backup.
        replace: Whether what is there may go.
        landing: Whether landed bytes are restored, where the backup has them.
        say: Takes a line for the person at the terminal.

    Raises:
        BackupError: It is damaged, doesn't fit this server or release, or would overwrite something.
    """
    say("reading and proving the backup")
    manifest = check(settings, path, replace=replace)
    prepare(settings)
    if landing and manifest.landing is not None:
        with path.open("rb") as source:
            put = bring_landing(settings, source)
        say(f"{put.files:,} landed objects written, {manifest.landing.files - put.files:,} were there")
    for key, name in databases(settings).items():
        say(f"restoring {name}")
        with path.open("rb") as source:
            fill(settings, name + FILLING, dump_of(source, key))
    finish(settings)
    return manifest


def check(settings: Settings, path: Path, *, replace: bool) -> Manifest:
    """Prove a backup, and refuse it where it can't be restored; changes nothing."""
    with path.open("rb") as source:
        return check_stream(settings, source, replace=replace)


def check_stream(settings: Settings, source: IO[bytes], *, replace: bool) -> Manifest:
    """Do the same with a backup that comes through a pipe.

    Raises:
        BackupError: It is damaged, of a newer release or server, or would overwrite something.
    """
    from dagster_project.warehouse.connection import connect_admin
    from dagster_project.warehouse.migrate import head, versions

    manifest = verify(source)
    if manifest.dumps.keys() != databases(settings).keys():
        raise BackupError(f"the backup has {', '.join(manifest.dumps)} instead of {', '.join(databases(settings))}")
    version = manifest.dumps["warehouse"].version
    if version is not None and version not in versions():
        raise BackupError(
            f"a newer release made it: its tables have version {version}, this one knows {head()}. Update"
        )
    with connect_admin(settings) as admin:
        row = admin.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
        if row is None or not row[0]:
            raise BackupError(
                f"the login {admin.info.user!r} is no superuser, which a restore with all owners and grants needs. On "
                "a managed server use its own snapshots"
            )
        here = admin.info.server_version // 10000
    newest = max(dump.server for dump in manifest.dumps.values())
    if newest > here:
        raise BackupError(f"it is of Postgres {newest}, and this server is {here}: restore into {newest} or newer")
    if not replace:
        refuse_content(settings)
    return manifest


def refuse_content(settings: Settings) -> None:
    """Refuse to overwrite what somebody has written.

    Raises:
        BackupError: A database has content; the message names tables.
    """
    from dagster_project.warehouse.connection import connect_admin

    for name in databases(settings).values():
        with connect_admin(settings, name) as connection:
            row = connection.execute(CONTENT).fetchone()
        if row is not None and row[0]:
            tables = row[0].split(", ")
            some = ", ".join(tables[:3]) + (f" and {len(tables) - 3} more" if len(tables) > 3 else "")
            raise BackupError(
                f"the database {name!r} has content ({some}): --replace (make: REPLACE=yes) overwrites it"
            )


def prepare(settings: Settings) -> None:
    """Make the empty databases that are filled, and remove what an earlier try left.

    Raises:
        BackupError: Somebody works in the databases that are to be replaced.
    """
    from dagster_project.warehouse.bootstrap import bootstrap
    from dagster_project.warehouse.connection import connect_admin

    names = databases(settings)
    bootstrap(settings)
    with connect_admin(settings, "postgres") as admin:
        row = admin.execute(SESSIONS, (list(names.values()),)).fetchone()
        if row is not None and row[1]:
            raise BackupError(
                f"{row[1]} sessions are open ({row[0]}): end `bindery dev`, runs and psql, then try again"
            )
        for key, name in names.items():
            for left in (name + FILLING, name + REPLACED):
                admin.execute(f'drop database if exists "{left}" with (force)'.encode())
            owner = "bindery_dagster" if key == "dagster" else "bindery_owner"
            made = f"create database \"{name}{FILLING}\" owner {owner} template template0 encoding 'UTF8' locale 'C'"
            admin.execute(made.encode())


def bring_landing(settings: Settings, source: IO[bytes]) -> Landing:
    """Write the landed objects of a backup that aren't there.

    Raises:
        BackupError: The landing can't be written.
    """
    root = landing_folder(settings)
    try:
        return put_landing(source, root)
    except OSError as error:
        raise BackupError(f"landed objects can't be written below {root}: {error}") from error


def finish(settings: Settings) -> None:
    """Put the filled databases in the place of the old ones, all at once, and bring them to this release.

    Raises:
        BackupError: They aren't filled.
    """
    from dagster_project import warehouse
    from dagster_project.warehouse.connection import connect_admin

    names = databases(settings)
    for key, name in names.items():
        with connect_admin(settings, name + FILLING) as connection:
            # It is filled in one transaction: where this one is, all are.
            row = connection.execute("select to_regclass(%s) is not null", (FILLED[key],)).fetchone()
            if row is None or not row[0]:
                raise BackupError(f"{name}{FILLING} isn't filled: begin the restore anew")
            if key == "warehouse":
                # Grants on the database itself aren't in a dump: so the next start makes everything anew.
                connection.execute("delete from bindery.bootstrap")
    with connect_admin(settings, "postgres") as admin:
        _swap(admin, list(names.values()))
        for name in names.values():
            admin.execute(f'drop database if exists "{name}{REPLACED}" with (force)'.encode())
    warehouse.ensure_ready(settings)


def _swap(admin: psycopg.Connection[Any], names: list[str]) -> None:
    import psycopg

    for attempt in range(ATTEMPTS):
        try:
            with admin.transaction():
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = any(%s)",
                    ([*names, *(name + FILLING for name in names)],),
                )
                for name in names:
                    admin.execute(f'alter database "{name}" rename to "{name}{REPLACED}"'.encode())
                    admin.execute(f'alter database "{name}{FILLING}" rename to "{name}"'.encode())
            return
        except psycopg.errors.ObjectInUse:
            if attempt == ATTEMPTS - 1:
                raise BackupError("somebody keeps connecting to the database: end `bindery dev` and runs") from None
            time.sleep(0.25)
