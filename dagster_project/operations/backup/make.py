"""Making a backup: Dagster's storage, then the warehouse, then the landed bytes, none as of a time before the last.

In that order nothing is missing: the warehouse may know of a load that Dagster's history doesn't, never the other way
round, and every landed object that the warehouse knows of is in the landing by then. Runs may go on meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dagster_project.operations.backup import BackupError
from dagster_project.operations.backup.archive import Dump, Manifest, Writer
from dagster_project.operations.backup.frames import Frames
from dagster_project.operations.backup.programs import dumping

if TYPE_CHECKING:
    from dagster_project.settings import Settings


def databases(settings: Settings) -> dict[str, str]:
    """Give the databases of a backup in their order: what each is, and its name."""
    return {"dagster": settings.dagster_database, "warehouse": settings.database_name}


def make(settings: Settings, target: Path, *, landing: bool) -> Manifest:
    """Write a backup to a file: complete under its name, or not there at all.

    Args:
        settings: Say which installation; its server must run.
        target: The file.
        landing: Whether landed bytes are part of it.

    Raises:
        BackupError: The file is there already, or a dump fails.
    """
    with new_file(target) as out:
        writer, manifest = Writer(out), begin(settings)
        for key, name in databases(settings).items():
            dump = look(settings, key, name)
            with dumping(settings, name) as content:
                writer.add_dump(key, dump, content)
            manifest.dumps[key] = dump
        return end(settings, writer, manifest, landing=landing)


def pack(settings: Settings, source: IO[bytes], out: IO[bytes], *, landing: bool) -> Manifest:
    """Write a backup of dumps that arrive in frames: those of a database in a container.

    Raises:
        BackupError: The frames break off, or aren't of the two databases.
    """
    writer, manifest = Writer(out), begin(settings)
    keys = {name: key for key, name in databases(settings).items()}
    for name, content in Frames(source):
        if name not in keys:
            raise BackupError(f"a dump of {name!r} came, which is none of {', '.join(keys)}")
        dump = look(settings, keys[name], name)
        writer.add_dump(keys[name], dump, content)
        manifest.dumps[keys[name]] = dump
    if manifest.dumps.keys() != set(keys.values()):
        raise BackupError(f"of the databases {', '.join(keys)} only {', '.join(manifest.dumps) or 'none'} came")
    return end(settings, writer, manifest, landing=landing)


def begin(settings: Settings) -> Manifest:
    """Begin the account of a backup."""
    from importlib.metadata import version

    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(now, version("bindery"), settings.code_version, settings.project)


def look(settings: Settings, key: str, name: str) -> Dump:
    """Ask a database what a server and a release must be like to take it in."""
    from dagster_project.warehouse.connection import connect_admin
    from dagster_project.warehouse.migrate import current

    with connect_admin(settings, name) as connection:
        version = current(connection) if key == "warehouse" else None
        return Dump(name, connection.info.server_version // 10000, version)


def end(settings: Settings, writer: Writer, manifest: Manifest, *, landing: bool) -> Manifest:
    """Add the landed bytes where they are wanted, then what proves the backup."""
    if landing:
        manifest.landing = writer.add_landing(landing_folder(settings))
    writer.finish(manifest)
    return manifest


def landing_folder(settings: Settings) -> Path:
    """Give the landing's folder.

    Raises:
        BackupError: It is elsewhere.
    """
    if "://" in settings.landing_root:
        raise BackupError(f"landing is at {settings.landing_root}: back it up there, and use --no-landing")
    return Path(settings.landing_root)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[IO[bytes]]:
    """Write a file that only this user may read, and that appears when it is complete and on the disk.

    Raises:
        BackupError: It is there already.
    """
    if target.exists():
        raise BackupError(f"{target} is there already: choose another name, or delete it")
    if not target.parent.is_dir():
        raise BackupError(f"there is no folder {target.parent}")
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        # Not over a file that came meanwhile.
        os.link(partial, target)
    except FileExistsError:
        raise BackupError(f"{target} is there already: choose another name, or delete it") from None
    except OSError as error:
        raise BackupError(f"{target} can't be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
