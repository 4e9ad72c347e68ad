"""What every test gets: a clean environment, loopback only, and a real Postgres with a fresh database where it asks.

One embedded server serves all xdist workers of a run. It lives in a folder of its own, in memory where there is much of
it, else under the system's temporary folder, never in the user's data directory, and ends with the run, even if that is
killed. ``BINDERY_TEST_DATABASE_URL``
(a login that may create roles and databases) replaces it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from dagster_project import settings as settings_module
from dagster_project.settings import Settings, get_settings

if TYPE_CHECKING:
    import psycopg

TEST_URL = os.environ.get("BINDERY_TEST_DATABASE_URL", "")
REAL_DATA = os.environ.get("BINDERY_REAL_DATA", "")
LOOPBACK = {"localhost", "::1", "0.0.0.0", ""}
PLAIN = {*settings_module.PLAIN_NAMES.values(), "DEBUG", "DAGSTER_HOME"}

IN_MEMORY_FROM = 6 * 2**30
"""Free bytes of memory from which the server's files are kept there; they take 1 to 2 GiB."""

# Ends the server and its folder when the run's first process is gone, however it went.
WATCHDOG = 'while kill -0 "$0" 2>/dev/null && kill -0 "$1" 2>/dev/null; do sleep 1; done; kill -QUIT "$1"; rm -rf "$2"'


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out tests over real data where none is given: not collected, so never counted as skipped."""
    return True if collection_path.name.startswith("test_real_") and not REAL_DATA else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files first that may take longest, by their own time-outs: else one worker ends with them alone."""
    longest: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0]) if marker and marker.args else 0.0
        longest[item.path] = max(longest.get(item.path, 0.0), seconds)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with data nobody here made. Only for files named ``test_real_*.py``."""
    assert REAL_DATA, "tests over real data go into files named test_real_*.py"
    return Path(REAL_DATA).resolve()


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Iterator[None]:
    """Refuse every connection of this process to another machine."""
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    own_names = LOOPBACK | {socket.gethostname(), "None", urlsplit(TEST_URL).hostname or ""}

    def check(host: str) -> None:
        if host not in own_names and not host.startswith("127."):
            raise RuntimeError(f"a test tried to reach {host}: tests only talk to this machine")

    def check_socket(self: socket.socket, address: Any) -> None:
        if self.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        try:
            check(str(address[0]))
        except RuntimeError:
            # Whoever opened it may not expect this error; an open socket would be one more.
            self.close()
            raise

    def checked_connect(self: socket.socket, address: Any) -> None:
        check_socket(self, address)
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        check_socket(self, address)
        return connect_ex(self, address)

    def checked_resolve(host: Any, *arguments: Any, **keywords: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if not name.replace(".", "").isdigit() and ":" not in name:
            check(name)
        return resolve(host, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        patch.setattr(socket, "getaddrinfo", checked_resolve)
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the caller's settings away: variables, ``.env``, what was cached of them."""
    for name in list(os.environ):
        if name.startswith(("BINDERY_", "PG", "POSTGRES_")) or name in PLAIN:
            monkeypatch.delenv(name)
    monkeypatch.setenv(settings_module.ENV_FILE_VARIABLE, "")
    settings_module.use_settings(None)
    yield
    settings_module.use_settings(None)


def roomy_folder() -> Path:
    """Where the server goes: hundreds of databases are made and dropped, in memory for a sixth of the work."""
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        if os.access(memory, os.W_OK) and min(shutil.disk_usage(memory).free, available) >= IN_MEMORY_FROM:
            return memory
    return Path(tempfile.gettempdir())


@pytest.fixture(scope="session")
def server_settings() -> Iterator[Settings]:
    """Settings of the run's server, bootstrapped and migrated. Tests take ``settings``, which has its own database."""
    from dagster_project import embedded, warehouse

    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    first = os.getppid() if in_worker else os.getpid()
    folder = roomy_folder() / f"bindery-tests-{os.getuid()}-{first}"
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    common = {"data_dir": folder, "environment": "test", "database_name": "template_of_tests"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(settings_module.ENV_FILE_VARIABLE, "")
        if TEST_URL:
            settings = Settings(**common, database_url=TEST_URL)
        else:
            info = embedded.start(Settings(**common), durable=False)
            if info.started:
                subprocess.Popen(
                    ["/bin/sh", "-c", WATCHDOG, str(first), str(info.pid), str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                ).returncode = 0  # it outlives us on purpose
            warehouse.ensure_ready(Settings(**common))
            settings = Settings(**common, database_url=info.dsn)
        warehouse.ensure_ready(settings)
        yield settings
    if TEST_URL:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def admin(server_settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection, in autocommit, of the login that may make databases."""
    from dagster_project.warehouse.connection import connect_admin

    with connect_admin(server_settings) as connection:
        yield connection


_numbers = iter(range(1, 1_000_000))


@pytest.fixture
def database(server_settings: Settings, admin: psycopg.Connection[Any]) -> Iterator[str]:
    """Name of a fresh, migrated warehouse database of this test's own; dropped after it."""
    from dagster_project.warehouse.bootstrap import run
    from dagster_project.warehouse.grants import database_statements

    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}_{next(_numbers)}"
    template = server_settings.database_name
    run(admin, [f'create database "{name}" owner bindery_owner template "{template}" strategy file_copy'])
    run(admin, database_statements(name))
    yield name
    run(admin, [f'drop database if exists "{name}" with (force)'])


@pytest.fixture
def settings(server_settings: Settings, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a database and folders of this test's own; ``get_settings`` and child processes see the same."""
    assert server_settings.database_url is not None
    values = {
        "BINDERY_DATABASE_URL": server_settings.database_url.get_secret_value(),
        "BINDERY_DATABASE_NAME": database,
        "BINDERY_DATA_DIR": str(tmp_path / "data"),
        "BINDERY_SECRETS_DIR": str(server_settings.secrets_path),
        "BINDERY_DROP_DIR": str(tmp_path / "drop"),
        "BINDERY_ENVIRONMENT": "test",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return get_settings()
