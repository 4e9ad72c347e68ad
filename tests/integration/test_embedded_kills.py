"""The embedded server after kill -9 of itself or its starter, with stale pid files, and under starters at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_project import embedded
from dagster_project.embedded.account import identity, unprivileged_account
from dagster_project.embedded.binaries import ENVIRONMENT, find_binaries
from dagster_project.embedded.home import Home
from dagster_project.embedded.processes import command_line, find_postmaster
from dagster_project.settings import Settings
from tests.integration import embedded_places
from tests.integration.embedded_places import kill, kill_server, line, place, starter, wait_for

stopped, made, fresh = embedded_places.stopped, embedded_places.made, embedded_places.fresh


def works(info: embedded.ServerInfo) -> bool:
    """Ask the server something."""
    with psycopg.connect(info.dsn.get_secret_value()) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def test_kill_9_of_the_server_keeps_what_was_committed(made: Settings) -> None:
    info = embedded.start(made, durable=False)
    connection = psycopg.connect(info.dsn.get_secret_value())
    connection.execute("create table t (n int)")
    connection.execute("insert into t select generate_series(1, 1000)")
    connection.commit()
    connection.execute("insert into t select generate_series(1, 1000)")
    kill_server(info.pid)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")
    connection.close()
    assert embedded.status(made).state == "stopped"
    again = embedded.start(made, durable=False)
    assert (again.started, again.port) == (True, info.port)
    with psycopg.connect(again.dsn.get_secret_value()) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (1000,)


def test_a_busy_backend_that_outlived_its_server_is_ended(made: Settings) -> None:
    info = embedded.start(made, durable=False)
    connection = psycopg.connect(info.dsn.get_secret_value(), autocommit=True)
    busy = connection.info.backend_pid

    def spin() -> None:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("do $$ begin loop end loop; end $$")

    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(0.2)
    kill_server(info.pid)
    assert command_line(busy) is not None, "the backend must be there, else this shows nothing"
    again = embedded.start(made, durable=False)
    thread.join(10)
    connection.close()
    assert works(again)
    assert command_line(busy) is None


def _stale(settings: Settings, pid: str) -> None:
    """Leave the pid file of a killed server, with another pid in it."""
    info = embedded.start(settings, durable=False)
    pid_file = info.data_dir / "postmaster.pid"
    kill_server(info.pid)
    lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{pid}\n", *lines[1:]]))


def _plain_postgres_refuses(settings: Settings) -> bool:
    """Show that the pid file would stop Postgres by itself, so that the test can fail."""
    account = unprivileged_account(settings.embedded_user)
    home = Home(settings.data_dir)
    programs = find_binaries(account, home.elsewhere)
    command = [programs.program("postgres"), "-D", str(home.cluster()), "-p", "1", "-c", "logging_collector=off"]
    who: dict[str, Any] = identity(account)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd="/", timeout=20, **who)
    return "lock file" in done.stderr


def test_a_pid_that_is_somebody_elses_by_now(made: Settings) -> None:
    who: dict[str, Any] = identity(unprivileged_account(made.embedded_user))
    other = subprocess.Popen(["/bin/sleep", "60"], **who)
    try:
        _stale(made, str(other.pid))
        assert embedded.status(made).state == "stopped"
        assert _plain_postgres_refuses(made)
        assert works(embedded.start(made, durable=False))
        assert other.poll() is None, "the other process is not ours to end"
    finally:
        other.kill()
        other.wait()


def test_a_pid_of_a_zombie(made: Settings) -> None:
    who: dict[str, Any] = identity(unprivileged_account(made.embedded_user))
    zombie = subprocess.Popen(["/bin/true"], **who)
    try:
        wait_for(lambda: command_line(zombie.pid) is None)
        os.kill(zombie.pid, 0)  # still known to the system
        _stale(made, str(zombie.pid))
        assert _plain_postgres_refuses(made)
        assert works(embedded.start(made, durable=False))
    finally:
        zombie.wait()


def test_a_server_that_is_just_ending_is_followed_by_a_new_one(made: Settings) -> None:
    info = embedded.start(made, durable=False)
    connection = psycopg.connect(info.dsn.get_secret_value())
    connection.execute("select 1")
    os.kill(info.pid, signal.SIGTERM)  # it waits for its sessions
    wait_for(lambda: embedded.status(made).state == "starting")
    thread = threading.Timer(0.3, connection.close)
    thread.start()
    again = embedded.start(made, durable=False)
    thread.join()
    assert again.pid != info.pid
    assert works(again)


@pytest.mark.parametrize("torn", ["", *(pytest.param(text, marks=pytest.mark.soak) for text in ("12", "garbage\n"))])
def test_a_torn_pid_file(made: Settings, torn: str) -> None:
    info = embedded.start(made, durable=False)
    kill_server(info.pid)
    (info.data_dir / "postmaster.pid").write_text(torn)
    assert works(embedded.start(made, durable=False))


@pytest.mark.parametrize("mode", [pytest.param(0o755, marks=pytest.mark.soak), 0o700], ids=["open", "closed home"])
def test_three_starters_at_once_make_one_server(mode: int) -> None:
    with place(mode) as data_dir:
        _three_at_once(Settings(data_dir=data_dir))


def _three_at_once(fresh: Settings) -> None:
    processes = [starter(fresh.data_dir) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert {words[0] for words in said} == {"up"}, said
    assert len({words[1] for words in said}) == 1, "one pid"
    assert sorted(words[3] for words in said) == ["False", "False", "True"]
    assert works(embedded.start(fresh))


def test_kill_9_of_the_starter_while_it_makes_the_cluster(fresh: Settings) -> None:
    process = starter(fresh.data_dir)
    folder = Home(fresh.data_dir).folder
    wait_for(lambda: list(folder.glob("new-*/cluster/base")))
    kill(process)
    assert not (folder / "cluster").exists(), "the kill has to land before the rename"
    info = embedded.start(fresh, durable=False)
    assert info.started
    assert works(info)
    assert embedded.stop(fresh)
    embedded.start(fresh, durable=False)
    assert (info.data_dir / "global").exists()


KILL_POINTS = {
    "before the server": "server._spawn = lambda *a: (print('here', flush=True), time.sleep(60))",
    "before the server has its pid file": "server._wait = lambda *a: (print('here', flush=True), time.sleep(60))",
    "while the server starts": (
        "server._wait = lambda home, cluster, attempt: ([time.sleep(0.005) for _ in "
        "iter(lambda: (cluster / 'postmaster.pid').exists(), True)], print('here', flush=True), time.sleep(60))"
    ),
    "before the port is written down": "server.Home.remember = lambda *a: (print('here', flush=True), time.sleep(60))",
    "before the cluster is in place": "cluster.Path.rename = lambda *a: (print('here', flush=True), time.sleep(60))",
    "before the password is kept": "cluster.write_secret = lambda *a: (print('here', flush=True), time.sleep(60))",
}


QUICK = {"before the server", "while the server starts", "before the cluster is in place"}
"""Points that `make test` tries; the others are of the long suite."""


@pytest.mark.parametrize(
    "where", [each if each in QUICK else pytest.param(each, marks=pytest.mark.soak) for each in KILL_POINTS]
)
def test_kill_9_of_the_starter(stopped: Path, where: str) -> None:
    # Before there is a server, the cluster has to be made; afterwards a ready one will do.
    making = KILL_POINTS[where].startswith("cluster.")
    with place(copy_of=None if making else stopped) as data_dir:
        _kill_the_starter(Settings(data_dir=data_dir), where)


def _kill_the_starter(fresh: Settings, where: str) -> None:
    process = starter(fresh.data_dir, KILL_POINTS[where])
    assert line(process) == "here"
    kill(process)
    info = embedded.start(fresh, durable=False)
    assert works(info)
    assert find_postmaster(info.data_dir) is not None
    assert embedded.start(fresh).pid == info.pid
    remembered = Home(fresh.data_dir).remembered()
    assert remembered is not None
    assert remembered.port == info.port
    if where in {"while the server starts", "before the port is written down"}:
        assert not info.started, "the server that the killed one started is taken over"
