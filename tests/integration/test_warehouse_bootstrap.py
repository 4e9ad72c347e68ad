"""Bootstrap, migrations and readiness: repeated, at once, cut off, as a master user, with rotated passwords."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from dagster_project import warehouse
from dagster_project.settings import ROLES, MissingSettingError, Settings, SettingsError, password_name
from dagster_project.warehouse import bootstrap, migrate
from dagster_project.warehouse.connection import WarehouseError, WarehouseUnavailableError, connect_admin
from tests.integration.embedded_places import place


@pytest.fixture(scope="module")
def server(server_settings: Settings) -> Iterator[Settings]:
    """A server of its own: roles are the whole server's, and these tests change their passwords.

    The run's server comes first, so that it doesn't start with the programs made here.
    """
    assert server_settings.database_url is not None
    from dagster_project import embedded
    from dagster_project.embedded import binaries

    with place() as programs, place() as data_dir, pytest.MonkeyPatch.context() as patch:
        # As on managed servers, somebody who isn't superuser may install pgvector in a database of theirs.
        programs.mkdir()
        folder = binaries._copy(binaries.wheel_folder(), programs)
        with (folder.parent / "share/postgresql/extension/vector.control").open("a") as control:
            control.write("trusted = true\n")
        patch.setattr(binaries, "wheel_folder", lambda: folder)
        own = Settings(data_dir=data_dir)
        embedded.start(own, durable=False)
        yield own


@pytest.fixture
def empty(server: Settings) -> Iterator[Settings]:
    """The server with no role and no database of ours."""
    yield server
    wipe(server)


def wipe(server: Settings) -> None:
    """Take everything of ours away."""
    with psycopg.connect(server.model_copy(update={"database_url": None}).admin_dsn().get_secret_value()) as admin:
        admin.autocommit = True
        rows = admin.execute("select datname from pg_database where not datistemplate and datname <> 'postgres'")
        for (name,) in rows.fetchall():
            admin.execute(f'drop database "{name}" with (force)')
        rows = admin.execute("select rolname from pg_roles where rolname ~ '^(bindery_|master|shared)'")
        names = [name for (name,) in rows.fetchall()]
        for name in names:
            admin.execute(f"drop owned by {name}")
        for name in names:
            admin.execute(f"drop role {name}")
    for role in ROLES:
        (server.secrets_path / password_name(role)).unlink(missing_ok=True)


def tables(settings: Settings) -> int:
    """Count the engine's tables, as the loader sees them."""
    with warehouse.connect(settings, "loader") as connection:
        row = connection.execute("select count(*) from pg_tables where schemaname = 'bindery'").fetchone()
    assert row is not None
    return int(row[0])


def test_everything_is_made_and_again_costs_little(empty: Settings) -> None:
    warehouse.ensure_ready(empty)
    assert tables(empty) > 5
    for role in ROLES:
        with warehouse.connect(empty, role) as connection:
            assert connection.execute("show timezone").fetchone() == ("UTC",)
        assert (empty.secrets_path / password_name(role)).stat().st_mode & 0o777 == 0o600
    begin = time.perf_counter()
    warehouse.ensure_ready(empty)
    assert time.perf_counter() - begin < 0.15


def test_the_password_itself_never_reaches_the_server_log(empty: Settings) -> None:
    with connect_admin(empty) as admin:
        admin.execute("alter system set log_statement = 'all'")
        admin.execute("select pg_reload_conf()")
        time.sleep(0.2)
        warehouse.ensure_ready(empty)
        admin.execute("alter system reset log_statement")
        admin.execute("select pg_reload_conf()")
    from dagster_project import embedded

    log = embedded.status(empty).log.read_text()
    assert "create role bindery_loader" in log
    for role in ROLES:
        assert (empty.secrets_path / password_name(role)).read_text().strip() not in log


def test_databases_sort_and_encode_as_everywhere(empty: Settings) -> None:
    warehouse.ensure_ready(empty)
    with connect_admin(empty) as admin:
        rows = admin.execute(
            "select datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate from pg_database "
            "where datname in ('bindery', 'dagster') order by 1"
        ).fetchall()
    assert rows == [("bindery", "bindery_owner", "UTF8", "C"), ("dagster", "bindery_dagster", "UTF8", "C")]


def test_the_databases_that_come_with_the_server_are_closed(empty: Settings) -> None:
    warehouse.ensure_ready(empty)
    for role in ROLES:
        for database in ("postgres", "template1"):
            with pytest.raises(WarehouseUnavailableError, match="permission denied for database"):
                warehouse.connect(empty, role, database)


def test_two_at_once(empty: Settings) -> None:
    code = (
        "import sys; from dagster_project import warehouse; from dagster_project.settings import Settings; "
        "warehouse.ensure_ready(Settings(data_dir=sys.argv[1]))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(empty.data_dir)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert tables(empty) > 5


def test_a_kill_between_file_and_role_heals(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "hashed_password", die)
        with pytest.raises(KeyboardInterrupt):
            warehouse.ensure_ready(empty)
    kept = (empty.secrets_path / password_name(ROLES[0])).read_text()
    warehouse.ensure_ready(empty)
    assert (empty.secrets_path / password_name(ROLES[0])).read_text() == kept
    assert tables(empty) > 5


@pytest.mark.parametrize("stage", ["prepare_database", "ensure_database", "database_statements"])
def test_a_kill_at_a_later_stage_heals(empty: Settings, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, stage, die)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.bootstrap(empty)
    warehouse.ensure_ready(empty)
    assert tables(empty) > 5


def test_a_rotated_password_is_given_to_the_role(empty: Settings) -> None:
    warehouse.ensure_ready(empty)
    (empty.secrets_path / password_name("loader")).write_text("rotated-by-hand\n")
    with pytest.raises(WarehouseUnavailableError, match="password"):
        warehouse.connect(empty, "loader")
    warehouse.ensure_ready(empty)
    assert tables(empty) > 5
    (empty.secrets_path / password_name("owner")).write_text("this one too\n")
    warehouse.ensure_ready(empty)
    assert tables(empty) > 5


def test_a_lost_password_is_made_anew(empty: Settings) -> None:
    warehouse.ensure_ready(empty)
    path = empty.secrets_path / password_name("reader")
    path.unlink()
    with pytest.raises(MissingSettingError, match="postgres_reader_password"):
        warehouse.connect(empty, "reader")
    warehouse.ensure_ready(empty)
    with warehouse.connect(empty, "reader") as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_folder_of_secrets_that_is_read_only_needs_the_passwords(empty: Settings, tmp_path: Path) -> None:
    blocked = tmp_path / "secrets"
    blocked.write_text("a file where the folder should be")
    settings = empty.model_copy(update={"secrets_dir": blocked})
    with pytest.raises(SettingsError, match=r"POSTGRES_OWNER_PASSWORD|folder of secrets"):
        bootstrap.bootstrap(settings)


def test_passwords_may_come_from_the_environment(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ROLES:
        monkeypatch.setenv(f"POSTGRES_{role.upper()}_PASSWORD", f"from outside {role}")
    warehouse.ensure_ready(empty)
    assert tables(empty) > 5
    assert not (empty.secrets_path / password_name("loader")).exists()


@pytest.fixture
def master(empty: Settings) -> Settings:
    """Settings of a managed server: the login may make roles and databases, and is not superuser."""
    with connect_admin(empty) as admin:
        admin.execute("create role master login createrole createdb password 'm'")
        admin.execute("grant connect on database postgres to master")
        url = f"postgresql://master:m@{admin.info.host}:{admin.info.port}/postgres"
    return Settings(data_dir=empty.data_dir, database_url=url)


def test_a_master_user_who_is_not_superuser_can_do_it_all(master: Settings) -> None:
    warehouse.ensure_ready(master)
    bootstrap.bootstrap(master)
    assert tables(master) > 5
    warehouse.create_scratch(master, "bindery_debug")
    warehouse.create_scratch(master, "bindery_debug")
    with warehouse.connect(master, "loader", "bindery_debug") as connection:
        assert connection.execute("select count(*) from bindery.batches").fetchone() == (0,)
    warehouse.clone_database(master, "bindery_copy")
    assert warehouse.drop_scratch(master, "bindery_debug")


def test_a_login_without_rights_is_told_what_it_lacks(empty: Settings) -> None:
    with connect_admin(empty) as admin:
        admin.execute("create role shared_weak login password 'w'")
        admin.execute("grant connect on database postgres to shared_weak")
        url = f"postgresql://shared_weak:w@{admin.info.host}:{admin.info.port}/postgres"
    with pytest.raises(WarehouseError, match=r"CREATEROLE and CREATEDB.*BINDERY_DATABASE_LOGIN=shared"):
        warehouse.ensure_ready(Settings(data_dir=empty.data_dir, database_url=url))
    shared = Settings(data_dir=empty.data_dir, database_url=url, database_login="shared")
    with pytest.raises(WarehouseError, match="create role bindery_owner nologin") as caught:
        warehouse.ensure_ready(shared)
    with connect_admin(empty) as admin:
        for statement in str(caught.value).partition("administrator runs: ")[2].split("; "):
            admin.execute(statement)
        for name, owner in (("bindery", "owner"), ("dagster", "dagster")):
            admin.execute(f"create database {name} owner bindery_{owner} template template0 encoding 'UTF8' locale 'C'")
    warehouse.ensure_ready(shared)
    with warehouse.connect(shared, "loader") as connection:
        assert connection.execute("select session_user, current_user").fetchone() == ("shared_weak", "bindery_loader")
        connection.execute("create table raw.t (n int)")
    with warehouse.connect(shared, "reader") as connection:
        assert connection.execute("select * from raw.t").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("insert into raw.t values (1)")


def test_a_login_that_may_not_install_pgvector_is_told_who_does(
    settings: Settings, admin: psycopg.Connection[Any]
) -> None:
    login = f"weak_{settings.database_name}"
    admin.execute(f"create role {login} login password 'w'")
    admin.execute(f"grant bindery_owner to {login}")
    with connect_admin(settings, settings.database_name) as inside:
        inside.execute("drop extension vector")
    url = f"postgresql://{login}:w@{admin.info.host}:{admin.info.port}/postgres"
    try:
        with pytest.raises(WarehouseError, match=r"an administrator runs there: create extension vector"):
            bootstrap.prepare_database(
                settings.model_copy(update={"database_url": SecretStr(url)}), settings.database_name
            )
    finally:
        admin.execute(f"drop role {login}")


class OldServer:
    """What a connection says of a server that is too old, or has no pgvector."""

    def __init__(self, version: int, extensions: int) -> None:
        self.info = self
        self.server_version = version
        self.extensions = extensions
        self.host = "db.example.org"
        self.port = 5432

    def execute(self, _: str) -> OldServer:
        return self

    def fetchone(self) -> tuple[int]:
        return (self.extensions,)


def test_an_old_server_or_one_without_pgvector_is_refused_in_words() -> None:
    old: Any = OldServer(150004, 1)
    with pytest.raises(WarehouseError, match=r"db.example.org:5432 is version 15; Bindery needs 16"):
        bootstrap.check_server(old)
    bare: Any = OldServer(170002, 0)
    with pytest.raises(WarehouseError, match=r"no pgvector.*postgresql-17-pgvector"):
        bootstrap.check_server(bare)
    bootstrap.check_server(OldServer(160000, 1))  # type: ignore[arg-type]


def test_no_server_is_said_in_words() -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/x"
    with pytest.raises(WarehouseUnavailableError, match="no connection to Postgres as u") as caught:
        warehouse.ensure_ready(Settings(database_url=url, secrets_dir="/nonexistent"))
    assert "hunter2" not in str(caught.value)


def test_migrations_run_once_and_know_newer_releases(settings: Settings) -> None:
    assert migrate.migrate(settings) == []
    with warehouse.connect(settings, "owner") as connection:
        connection.execute("update bindery.alembic_version set version_num = '9999'")
    with pytest.raises(WarehouseError, match=r"at version 9999.*Update Bindery"):
        migrate.migrate(settings)


def test_migrations_at_once(settings: Settings) -> None:
    with warehouse.connect(settings, "owner") as connection:
        connection.execute("drop schema bindery cascade; drop table raw._quarantine")
    bootstrap.prepare_database(settings, settings.database_name)
    ran: list[list[str]] = []
    threads = [threading.Thread(target=lambda: ran.append(migrate.migrate(settings))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == [[], migrate.versions()]


def test_versions_are_a_line_in_the_order_of_their_names() -> None:
    before = None
    for path in sorted((migrate.MIGRATIONS / "versions").glob("*.py")):
        text = path.read_text()
        revision = path.name.split("_", 1)[0]
        assert f'revision = "{revision}"' in text
        assert f"down_revision = {before!r}".replace("'", '"') in text
        before = revision
    assert before == migrate.head()


def test_being_ready_does_not_import_alembic(settings: Settings) -> None:
    code = (
        "import sys; from dagster_project import warehouse; from dagster_project.settings import get_settings; "
        "warehouse.ensure_ready(get_settings()); "
        "print([name for name in ('alembic', 'sqlalchemy', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    bootstrap.prepare_database(settings, settings.database_name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inside_a_container_nothing_is_prepared_and_everything_is_usable(settings: Settings, tmp_path: Path) -> None:
    assert settings.database_url is not None
    where = urlsplit(settings.database_url.get_secret_value())
    for path in settings.secrets_path.iterdir():
        if "owner" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    given: dict[str, Any] = {
        "database_url": f"postgresql://{where.hostname}:{where.port}/postgres",
        "database_name": settings.database_name,
        "secrets_dir": tmp_path,
        "data_dir": settings.data_dir,
    }
    inside = Settings(**given, environment="docker")
    warehouse.ensure_ready(inside)
    with warehouse.connect(inside, "loader") as connection:
        connection.execute("select from bindery.loads")
    with pytest.raises(WarehouseError):
        warehouse.ensure_ready(Settings(**given, environment="test"))
