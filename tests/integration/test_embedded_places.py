"""The embedded server where it can't be put simply: another account, a closed home, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from dagster_project import embedded, warehouse
from dagster_project.cli import main
from dagster_project.embedded import DiskFullError, EmbeddedError, binaries, cluster
from dagster_project.embedded.home import Home
from dagster_project.settings import Settings, get_settings
from tests.integration.embedded_places import place

ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")


def works(info: embedded.ServerInfo) -> bool:
    """Ask the server something."""
    with psycopg.connect(info.dsn.get_secret_value()) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def as_ordinary_user(action: Callable[[], str]) -> str:
    """Run an action in a child that has become an ordinary user, where we are root; as ourselves otherwise.

    A fork keeps the modules already loaded: the interpreter itself may lie where that user can't read it.
    """
    if not ROOT:
        return action()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = {"error": "never came back"}
        with contextlib.suppress(BaseException):
            try:
                os.setgroups([])
                os.setgid(NOBODY.pw_gid)
                os.setuid(NOBODY.pw_uid)
                said = {"value": action()}
            except BaseException:
                said = {"error": traceback.format_exc()}
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = json.loads(file.read())
    os.waitpid(child, 0)
    assert "error" not in said, said["error"]
    return str(said["value"])


@pytest.fixture
def readable_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make sure that any account can run Postgres, wherever this environment lies."""
    with place() as folder:
        folder.mkdir()
        copied = binaries._copy(binaries.wheel_folder(), folder)
        monkeypatch.setattr(binaries, "wheel_folder", lambda: copied)
        yield


@pytest.mark.usefixtures("readable_programs")
def test_an_ordinary_user_has_everything_in_the_data_directory() -> None:
    with place() as data_dir:
        data_dir.mkdir()
        if ROOT:
            os.chown(data_dir, NOBODY.pw_uid, NOBODY.pw_gid)
        settings = Settings(data_dir=data_dir)

        def action() -> str:
            info = embedded.start(settings, durable=False)
            assert works(info)
            assert embedded.start(settings).pid == info.pid
            assert embedded.stop(settings)
            assert embedded.status(settings).state == "stopped"
            again = embedded.start(settings, durable=False)
            assert works(again)
            assert embedded.stop(settings)
            return str(info.data_dir)

        assert as_ordinary_user(action) == str(data_dir / "postgres" / "cluster")
        assert not Home(data_dir).elsewhere.exists()


@pytest.mark.usefixtures("readable_programs")
def test_a_data_directory_of_somebody_else_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with place() as data_dir:
        settings = Settings(data_dir=data_dir)
        if not ROOT:
            # Nobody else's files can be made without root: a folder that is closed even to us is what they look like.
            data_dir.mkdir(mode=0o500)
        else:
            embedded.start(settings, durable=False)
            embedded.stop(settings)

        def action() -> str:
            with pytest.raises(EmbeddedError, match="belongs to somebody else") as caught:
                embedded.start(settings)
            return str(caught.value)

        assert "BINDERY_DATA_DIR" in as_ordinary_user(action)
        data_dir.chmod(0o755)


def bindery_status(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BINDERY_DATA_DIR", str(data_dir))
    warehouse.ensure_ready(get_settings())
    return CliRunner().invoke(main, ["db", "status"], catch_exceptions=False).output


def test_under_a_closed_home_root_puts_the_cluster_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with place(0o700) as data_dir:
        settings = Settings(data_dir=data_dir)
        info = embedded.start(settings, durable=False)
        assert works(info)
        home = Home(data_dir)
        expected = home.elsewhere / "cluster" if ROOT else home.folder / "cluster"
        assert info.data_dir == expected
        assert home.location_file.exists() is ROOT
        embedded.stop(settings)
        again = embedded.start(settings, durable=False)
        assert (again.data_dir, again.port) == (info.data_dir, info.port)
        said = bindery_status(data_dir, monkeypatch)
        assert f"files     {expected}" in said
        assert (f"not in {data_dir}" in said) is ROOT, "who looks for the database is told where it is"
        embedded.stop(settings)
        if ROOT:
            copy = data_dir.parent / "copy"
            shutil.copytree(data_dir, copy)
            with pytest.raises(EmbeddedError, match="is a copy of"):
                embedded.start(Settings(data_dir=copy))


def test_programs_in_a_closed_folder_are_copied_for_the_other_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    closed = binaries._copy(binaries.wheel_folder(), tmp_path)
    monkeypatch.setattr(binaries, "wheel_folder", lambda: closed)
    with place() as data_dir:
        info = embedded.start(Settings(data_dir=data_dir), durable=False)
        assert works(info)
        copied = Home(data_dir).elsewhere / "programs"
        assert copied.exists() is ROOT
        if ROOT:
            assert embedded.stop(Settings(data_dir=data_dir))
            before = copied.stat().st_ino
            assert works(embedded.start(Settings(data_dir=data_dir), durable=False))
            assert copied.stat().st_ino == before, "copied once"


def test_root_needs_an_account_to_become(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.embedded import account

    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(EmbeddedError, match="BINDERY_EMBEDDED_USER"):
        account.unprivileged_account("no-such-account")
    with pytest.raises(EmbeddedError, match="is root"):
        account.unprivileged_account("root")
    assert account.unprivileged_account("nobody") == account.Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small disk on a folder; yields False where this account may not."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    mounted = ROOT and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            embedded.stop(Settings(data_dir=folder))
            subprocess.run(["umount", str(folder)], check=True)


def failing_initdb(folder: Path) -> Path:
    """Make an installation whose initdb says what the real one says on a full disk."""
    target = folder / "programs"
    target.mkdir()
    for program in binaries.wheel_folder().iterdir():
        (target / program.name).symlink_to(program)
    (target / "initdb").unlink()
    (target / "initdb").write_text(
        "#!/bin/sh\necho 'initdb: error: could not write: No space left on device' >&2\nexit 1\n"
    )
    (target / "initdb").chmod(0o755)
    return target


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written() -> None:
    with place() as data_dir, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "NEEDED_BYTES", 10**18)
        with pytest.raises(DiskFullError, match="MB free"):
            embedded.start(Settings(data_dir=data_dir))
        assert not list(Home(data_dir).folder.glob("new-*"))


def test_a_disk_that_fills_up_while_the_cluster_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with place() as data_dir, small_disk(data_dir, 20) as mounted:
        if mounted:
            monkeypatch.setattr(cluster, "NEEDED_BYTES", 0)
        else:
            fake = failing_initdb(data_dir)
            monkeypatch.setattr(binaries, "wheel_folder", lambda: fake)
        with pytest.raises(DiskFullError, match="No space left on device") as caught:
            embedded.start(Settings(data_dir=data_dir), durable=False)
        assert "BINDERY_DATA_DIR" in str(caught.value)
        assert not (Home(data_dir).folder / "cluster").exists()
        assert not list(Home(data_dir).folder.glob("new-*")), "what was written is taken away again"
        monkeypatch.undo()


def test_a_full_disk_stops_the_start_in_words_and_space_heals_it() -> None:
    with place() as data_dir, small_disk(data_dir, 200) as mounted:
        settings = Settings(data_dir=data_dir)
        info = embedded.start(settings, durable=False)
        embedded.stop(settings)
        if mounted:
            filler = data_dir / "filler"
            Home(data_dir).start_log.unlink()
            with filler.open("wb", buffering=0) as file:
                for size in (1 << 16, 1 << 10, 1):
                    with contextlib.suppress(OSError):
                        while file.write(b"\0" * size):
                            pass
            with pytest.raises(DiskFullError, match="BINDERY_DATA_DIR"):
                embedded.start(settings, durable=False)
            filler.unlink()
        else:
            blocker = info.data_dir / "bindery.conf"
            blocker.write_text("data_sync_retry = on\n")
        assert works(embedded.start(settings, durable=False))
