"""The embedded server as people meet it: started, found again, stopped, and what it is like inside."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dagster_project import embedded
from dagster_project.embedded import EmbeddedError
from dagster_project.embedded.home import Home
from dagster_project.settings import Settings
from tests.integration import embedded_places
from tests.integration.embedded_places import place, starter

stopped, made, fresh = embedded_places.stopped, embedded_places.made, embedded_places.fresh


@pytest.fixture(scope="module")
def shared() -> Iterator[Settings]:
    """Settings of one running server for the tests that only look."""
    with place() as data_dir:
        settings = Settings(data_dir=data_dir)
        embedded.start(settings)
        yield settings


def test_it_outlives_its_starter_and_the_next_command_finds_it(fresh: Settings) -> None:
    process = starter(fresh.data_dir)
    said, _ = process.communicate(timeout=60)
    word, pid, port, started = said.split()
    assert (word, started) == ("up", "True")
    begin = time.perf_counter()
    found = embedded.start(fresh)
    assert time.perf_counter() - begin < 0.05
    assert (str(found.pid), str(found.port), found.started) == (pid, port, False)
    with psycopg.connect(found.dsn.get_secret_value()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_status_tells_absent_running_stopped(fresh: Settings) -> None:
    assert embedded.status(fresh).state == "absent"
    assert not fresh.data_dir.exists(), "looking makes nothing"
    assert embedded.stop(fresh) is False
    info = embedded.start(fresh, durable=False)
    running = embedded.status(fresh)
    assert (running.state, running.pid, running.port) == ("running", info.pid, info.port)
    assert running.log.exists()
    assert embedded.stop(fresh) is True
    stopped = embedded.status(fresh)
    assert (stopped.state, stopped.pid, stopped.port) == ("stopped", None, info.port)
    assert embedded.stop(fresh) is False


def test_stop_rolls_back_what_is_open_and_the_port_stays(made: Settings) -> None:
    info = embedded.start(made, durable=False)
    connection = psycopg.connect(info.dsn.get_secret_value())
    connection.execute("create table t (n int)")
    connection.commit()
    connection.execute("insert into t values (1)")
    assert embedded.stop(made) is True
    connection.close()
    again = embedded.start(made, durable=False)
    assert (again.started, again.port) == (True, info.port)
    assert again.pid != info.pid
    with psycopg.connect(again.dsn.get_secret_value()) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (0,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("jit", "off"),
        ("max_connections", "100"),
    ],
)
def test_its_settings(shared: Settings, name: str, value: str) -> None:
    with psycopg.connect(embedded.start(shared).dsn.get_secret_value()) as connection:
        assert connection.execute(f"show {name}").fetchone() == (value,)


def test_text_sorts_by_code_point(shared: Settings) -> None:
    with psycopg.connect(embedded.start(shared).dsn.get_secret_value()) as connection:
        row = connection.execute("select datcollate, datctype from pg_database where datname = 'template0'").fetchone()
        assert row == ("C", "C")


def test_only_the_password_opens_it(shared: Settings) -> None:
    home = Home(shared.data_dir)
    assert home.password_file.stat().st_mode & 0o777 == 0o600
    info = embedded.start(shared)
    assert info.dsn.get_secret_value() not in repr(info)
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=info.host, port=info.port, user="postgres", password=password, dbname="postgres")
    cluster = info.data_dir
    assert cluster.stat().st_mode & 0o777 == 0o700
    methods = {line.split()[-1] for line in (cluster / "pg_hba.conf").read_text().splitlines() if line[:1].isalpha()}
    assert methods == {"scram-sha-256"}


def test_a_port_taken_meanwhile_is_left_to_whoever_has_it(made: Settings) -> None:
    first = embedded.start(made, durable=False)
    embedded.stop(made)
    with socket.create_server(("127.0.0.1", first.port)):
        second = embedded.start(made, durable=False)
        assert second.port != first.port
        with psycopg.connect(second.dsn.get_secret_value()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    embedded.stop(made)
    assert embedded.start(made, durable=False).port == second.port, "the new port is remembered"


def test_a_cluster_of_another_major_version_is_left_alone_in_words(made: Settings) -> None:
    cluster = Path(embedded.start(made, durable=False).data_dir)
    embedded.stop(made)
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match=r"made by Postgres 16, .* brings Postgres 18") as caught:
        embedded.start(made)
    assert str(cluster) in str(caught.value)
    assert "BINDERY_DATA_DIR" in str(caught.value)


def test_a_folder_that_is_no_cluster_is_left_alone(made: Settings) -> None:
    cluster = Path(embedded.start(made, durable=False).data_dir)
    embedded.stop(made)
    (cluster / "PG_VERSION").unlink()
    with pytest.raises(EmbeddedError, match="no PG_VERSION"):
        embedded.start(made)


def test_a_lost_password_is_renewed_by_stop_and_start(made: Settings) -> None:
    embedded.start(made, durable=False)
    password_file = Home(made.data_dir).password_file
    before = password_file.read_text()
    password_file.unlink()
    with pytest.raises(EmbeddedError, match="db stop"):
        embedded.start(made, durable=False)
    embedded.stop(made)
    info = embedded.start(made, durable=False)
    assert password_file.read_text() != before
    assert password_file.stat().st_mode & 0o777 == 0o600
    with psycopg.connect(info.dsn.get_secret_value()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_broken_configuration_shows_what_postgres_said(made: Settings) -> None:
    cluster = Path(embedded.start(made, durable=False).data_dir)
    embedded.stop(made)
    with (cluster / "postgresql.conf").open("a") as file:
        file.write("work_mem = 'plenty'\n")
    with pytest.raises(EmbeddedError, match="work_mem"):
        embedded.start(made, durable=False)
