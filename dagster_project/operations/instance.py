"""Dagster's instance of this installation: its folder, its storage in Postgres without a password in any file of
Dagster's or in any argument, and the runs that died with their process.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

    from dagster_project.settings import Settings

WORKER_TAG = "bindery/worker"
"""Of a run that `bindery run` carries out in its own process: ``<host>/<process id>/<start of the process>``."""
GRPC_TAG = "dagster/grpc_info"
"""Dagster's, of a run that a code server carries out: where that server listens."""
NOT_EXPORTED = frozenset({"database_url", "code_version"})


class InstanceError(Exception):
    """Dagster's instance can't be set up; the message says why."""

    exit_code = 5


@dataclass(frozen=True, slots=True)
class Home:
    """A prepared instance folder, and what processes that use it need in their environment."""

    path: Path
    environment: Mapping[str, str]


def prepare_home(settings: Settings) -> Home:
    """Write the instance's folder: the configuration of this environment, and the password file for libpq.

    Raises:
        InstanceError: The repository's configuration is missing.
        MissingSettingError: Postgres was never started.
    """
    home = settings.dagster_home_path
    home.mkdir(parents=True, exist_ok=True)
    source = settings.project_dir / "deploy" / "instance" / "local" / "dagster.yaml"
    if not source.exists():
        raise InstanceError(f"{source} is missing: it configures Dagster's instance")
    target = home / "dagster.yaml"
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)
    url, passfile_line = storage_url(settings.dsn("dagster").get_secret_value())
    passfile = home / "pgpass"
    write_private(passfile, passfile_line)
    return Home(
        home,
        {
            **exported(settings),
            "DAGSTER_HOME": str(home),
            "BINDERY_DAGSTER_URL": url,
            "PGPASSFILE": str(passfile),
            "BINDERY_CODE_HOST": settings.code_host,
            "BINDERY_CODE_PORT": str(settings.code_port),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
        },
    )


def prepare_debug_home(settings: Settings) -> Home:
    """Make an empty instance for a debug run: its few rows are no part of the history that the UI shows."""
    home = settings.data_dir / "dagster-debug"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\npython_logs: {python_log_level: INFO}\n")
    return Home(home, {**exported(settings), "DAGSTER_HOME": str(home), "DO_NOT_TRACK": "1"})


def storage_url(dsn: str) -> tuple[str, str]:
    """Split a libpq URL into SQLAlchemy's, without the password, and the password file's line."""
    parts = urlsplit(dsn)
    host, port = parts.hostname or "localhost", parts.port or 5432
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    name = unquote(parts.path.lstrip("/"))
    query = dict(parse_qsl(parts.query))
    query["application_name"] = "dagster"
    login = quote(user, safe="")
    shown = f"[{host}]" if ":" in host else host
    url = f"postgresql+psycopg2://{login}@{shown}:{port}/{quote(name, safe='')}?{urlencode(query, quote_via=quote)}"
    fields = (host, str(port), name, user, password)
    return url, ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, without a moment in which somebody could."""
    if path.exists() and path.read_text() == text:
        return
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
    staged.write_text(text)
    staged.replace(path)


def exported(settings: Settings) -> dict[str, str]:
    """Give settings that were passed as arguments as environment variables, so that child processes have them too.

    Secrets are left out: children read them where this process did.
    """
    from pydantic import SecretStr

    from dagster_project.settings import PREFIX

    values = {name: getattr(settings, name) for name in settings.model_fields_set - NOT_EXPORTED}
    return {
        PREFIX + name.upper(): str(value)
        for name, value in values.items()
        if value is not None and not isinstance(value, SecretStr)
    }


@contextlib.contextmanager
def open_instance(home: Home) -> Iterator[DagsterInstance]:
    """Open the instance, with its environment in this process, so that the processes of steps inherit it."""
    from dagster import DagsterInstance

    from dagster_project.settings import export_environment

    export_environment(home.environment)
    with DagsterInstance.from_config(str(home.path)) as instance:
        yield instance


def this_worker() -> str:
    """Name this process for ``WORKER_TAG``."""
    import os

    pid = os.getpid()
    return f"{platform.node()}/{pid}/{_started(pid)}"


def fail_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone (killed, machine off), and free the pool slots they held.

    Returns:
        The ids of those runs.
    """
    from dagster import DagsterRunStatus, RunsFilter

    under_way = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    dead = [run for run in instance.get_runs(RunsFilter(statuses=under_way)) if is_dead(run)]
    for run in dead:
        instance.report_run_failed(run, "The process that carried out this run is gone: it was killed, or the machine.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def is_dead(run: DagsterRun) -> bool:
    """Say whether the process that carries out a run is gone, as far as the run itself tells which it is."""
    import json
    import os

    if worker := run.tags.get(WORKER_TAG):
        host, pid, started = worker.rsplit("/", 2)
        if host != platform.node():
            return False
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return bool(started) and _started(int(pid)) != started
    if found := run.tags.get(GRPC_TAG):
        server = json.loads(found)
        return "port" in server and not listens(server.get("host") or "127.0.0.1", int(server["port"]))
    return False


def listens(host: str, port: int, seconds: float = 1.0) -> bool:
    """Say whether somebody answers at a TCP port."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False


def _started(pid: int) -> str:
    """Give the start time of a process where the system tells it (Linux), to know a pid that was given again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
