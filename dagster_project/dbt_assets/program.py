"""The dbt program: how it is called, with which environment, and the project prepared for it.

Credentials travel in the child's environment, never in arguments or logs. Parsing happens here and nowhere else: when
the code location is initialised, by `bindery dbt parse`, or in the image's build; a step finds the manifest there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from dagster_project.settings import Settings

PARTIAL_PARSE = "partial_parse.msgpack"
PARSE_SECONDS = 300
_PROJECT_FILES = frozenset({".sql", ".yml", ".yaml", ".csv", ".md", ".py"})
_NOT_PROJECT = frozenset({"target", "logs", "dbt_packages", "__pycache__"})
GLOBAL_OPTIONS = ("--no-use-colors", "--log-format", "json", "--log-level-file", "none", "--no-version-check")
QUIET = {"DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "PYTHONUNBUFFERED": "1"}


class DbtError(Exception):
    """dbt can't be used, or refuses the project."""

    exit_code = 2


def target_dir(settings: Settings) -> Path:
    """Give the folder of the prepared manifest."""
    return settings.dbt_project_dir / "target"


def manifest_path(settings: Settings) -> Path:
    """Give the path of the prepared manifest."""
    return target_dir(settings) / "manifest.json"


def project_hash(settings: Settings) -> str:
    """Fingerprint the project's files: paths and contents."""
    found = hashlib.sha256()
    root = settings.dbt_project_dir
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.suffix in _PROJECT_FILES and not _NOT_PROJECT.intersection(inside.parts) and path.is_file():
            found.update(f"{inside.as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def is_current(settings: Settings) -> bool:
    """Say whether the manifest was made from the project's files as they are."""
    try:
        return manifest_path(settings).exists() and _hash_file(settings).read_text() == project_hash(settings)
    except OSError:
        return False


def prepare(settings: Settings, *, force: bool = False) -> Path:
    """Parse the project where the manifest is missing or older than its files; one process at a time.

    Returns:
        The manifest's path.

    Raises:
        DbtError: dbt isn't there, or refuses the project.
    """
    if not force and is_current(settings):
        return manifest_path(settings)
    target = target_dir(settings)
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if force or not is_current(settings):
            before = project_hash(settings)
            parse(settings, target)
            _hash_file(settings).write_text(before)
    return manifest_path(settings)


def parse(settings: Settings, target: Path) -> None:
    """Run ``dbt parse`` and put what it made into ``target``, the manifest last.

    Raises:
        DbtError: dbt isn't there, or refuses the project.
    """
    with tempfile.TemporaryDirectory(prefix="bindery-dbt-") as folder:
        work = Path(folder)
        if (target / PARTIAL_PARSE).exists():
            shutil.copyfile(target / PARTIAL_PARSE, work / PARTIAL_PARSE)
        arguments = [*command(settings), "parse", *project_options(settings, work)]
        try:
            done = subprocess.run(
                arguments,
                env=environment(settings, None),
                cwd=settings.dbt_project_dir,
                capture_output=True,
                text=True,
                timeout=PARSE_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise DbtError(missing_program(settings)) from error
        except subprocess.TimeoutExpired as error:
            raise DbtError(f"dbt parse took longer than {PARSE_SECONDS} s") from error
        if done.returncode != 0:
            from dagster_project.dbt_assets.log import errors_in

            told = errors_in(done.stdout.splitlines()) or [done.stderr.strip() or "no message"]
            raise DbtError(f"dbt refuses the project {settings.dbt_project_dir}:\n" + "\n".join(told))
        for name in (PARTIAL_PARSE, "manifest.json"):
            staged = target / f".{name}.new"
            shutil.copyfile(work / name, staged)
            staged.replace(target / name)


def command(settings: Settings) -> list[str]:
    """Give the program with the options that come before its subcommand."""
    return [str(settings.dbt_path), *GLOBAL_OPTIONS]


def project_options(settings: Settings, target: Path) -> list[str]:
    """Give the options that say which project, which profile, and where dbt may write."""
    project = str(settings.dbt_project_dir)
    # Also the log's folder, though it is turned off: dbt ends without a word where it can't make one.
    places = ["--target-path", str(target), "--log-path", str(target)]
    return ["--project-dir", project, "--profiles-dir", project, *places]


def missing_program(settings: Settings) -> str:
    """Say that dbt isn't there, and what to do."""
    return (
        f"dbt isn't at {settings.dbt_path}: `make install` makes its environment .venv-dbt, "
        "or BINDERY_DBT_EXECUTABLE names another"
    )


def environment(settings: Settings, database: str | None) -> dict[str, str]:
    """Make the environment of a dbt process: who connects where, in words that ``profiles.yml`` reads.

    Without a server that was ever started the connection stays open, which parsing doesn't mind.
    """
    from dagster_project.settings import MissingSettingError, child_environment

    try:
        url = settings.dsn("transformer", database).get_secret_value()
    except MissingSettingError:
        return child_environment(QUIET)
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    names = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}
    return child_environment(
        {
            **QUIET,
            "BINDERY_DBT_HOST": parts.hostname or query.get("host", "localhost"),
            "BINDERY_DBT_PORT": str(parts.port or query.get("port", 5432)),
            "BINDERY_DBT_DBNAME": unquote(parts.path.lstrip("/")),
            "BINDERY_DBT_USER": unquote(parts.username or query.get("user", "")),
            "DBT_ENV_SECRET_BINDERY_PASSWORD": unquote(parts.password or query.get("password", "")),
            # What else a URL may say, libpq reads by itself.
            "PGOPTIONS": " ".join(filter(None, ["-c timezone=UTC", query.get("options")])),
            "PGAPPNAME": "bindery dbt",
            **{names[name]: value for name, value in query.items() if name in names},
        }
    )


@contextlib.contextmanager
def work_folder(settings: Settings, database: str | None) -> Iterator[Path]:
    """Give a run a target folder of its own, with what dbt parsed before: parallel runs don't meet, and start fast.

    What dbt had to parse anew, because it connects elsewhere than the prepared parse, is kept for the next time.
    """
    cache = _parse_cache(settings, database)
    prepared = target_dir(settings) / PARTIAL_PARSE
    with tempfile.TemporaryDirectory(prefix="bindery-dbt-") as folder:
        work = Path(folder)
        newest = max(
            (path for path in (cache, prepared) if path.exists()), key=lambda p: p.stat().st_mtime, default=None
        )
        seed = cache if cache.exists() and newest is not None else newest
        if seed is not None:
            shutil.copyfile(seed, work / PARTIAL_PARSE)
        seeded = (work / PARTIAL_PARSE).stat().st_mtime_ns if seed is not None else None
        yield work
        made = work / PARTIAL_PARSE
        if made.exists() and made.stat().st_mtime_ns != seeded:
            with contextlib.suppress(OSError):  # a read-only file system: the next run parses again
                cache.parent.mkdir(parents=True, exist_ok=True)
                staged = Path(tempfile.mkstemp(dir=cache.parent, suffix=".new")[1])
                shutil.copyfile(made, staged)
                staged.replace(cache)


def _parse_cache(settings: Settings, database: str | None) -> Path:
    made = environment(settings, database)
    where = "\0".join(made.get(f"BINDERY_DBT_{name}", "") for name in ("HOST", "PORT", "DBNAME", "USER"))
    name = hashlib.sha256(f"{where}\0{settings.dbt_project_dir}".encode()).hexdigest()[:16]
    return settings.data_dir / "dbt" / f"{name}.msgpack"


def _hash_file(settings: Settings) -> Path:
    return target_dir(settings) / "project.sha256"
