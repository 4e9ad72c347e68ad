"""Calls of dbt that are forked from a process which has it imported: the same results, and no orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project.dbt_assets.process import Fork, Process, preloaded, socket_path, start
from dagster_project.dbt_assets.program import command, environment, project_options
from dagster_project.settings import Settings
from tests.run import ROOT

pytestmark = pytest.mark.timeout(300)
FILES = {
    "dbt_project.yml": """
name: one
version: "1.0"
profile: bindery
flags: {send_anonymous_usage_stats: false}
""",
    "profiles.yml": (ROOT / "dbt_project" / "profiles.yml").read_text(),
    # Where the variable is set, reading the project takes longer than any test waits.
    "models/only.sql": """
{% if env_var('BINDERY_SLOW', '') %}
  {% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}
{% endif %}
select 1 as one
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def place(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("place"), dbt_project_dir=project)


def call(settings: Settings, folder: Path, *arguments: str, **variables: str) -> Process:
    words = [*command(settings), *arguments, *project_options(settings, folder)]
    return start(settings, words, {**environment(settings, None), **variables}, settings.dbt_project_dir, folder)


def slow_call(settings: Settings, folder: Path) -> Fork:
    process = call(settings, folder, "parse", "--no-partial-parse", BINDERY_SLOW="1")
    assert isinstance(process, Fork)
    return process


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def said(process: Process) -> str:
    assert process.stdout is not None
    with process.stdout:
        return process.stdout.read()


def stop(direct: Process) -> None:
    assert isinstance(direct, subprocess.Popen), "not started by itself"
    direct.kill()
    said(direct)
    direct.wait()


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@pytest.fixture(scope="module")
def listening(place: Settings) -> Iterator[Path]:
    with preloaded(place, None):
        wait_for(socket_path(place))
        yield socket_path(place)
    assert not socket_path(place).exists()


def test_a_fork_says_and_does_what_the_program_does(place: Settings, listening: Path, tmp_path: Path) -> None:
    assert listening.stat().st_mode & 0o077 == 0, "others may call"
    here = os.environ.get("HOME", "")
    outcomes = []
    for settings in (place, place.model_copy(update={"data_dir": tmp_path})):
        process = call(settings, tmp_path, "ls", "--output", "json")
        assert isinstance(process, Fork) is (settings is place)
        lines = [json.loads(line) for line in said(process).splitlines()]
        outcomes.append((process.wait(), [line["info"]["msg"] for line in lines if "one.only" in line["info"]["msg"]]))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == 0
    assert outcomes[0][1]
    assert os.environ.get("HOME", "") == here


@pytest.mark.soak
def test_a_fork_fails_as_the_program_does(place: Settings, listening: Path, tmp_path: Path) -> None:
    for settings in (place, place.model_copy(update={"data_dir": tmp_path})):
        nonsense = call(settings, tmp_path, "build", "--nonsense")
        assert "--nonsense" in said(nonsense)
        assert nonsense.wait() == 2
        missing = call(settings, tmp_path, "build", "--profile", "nobody")
        assert "nobody" in said(missing)
        assert missing.wait() == 2


def test_a_call_ends_with_its_client(place: Settings, listening: Path, tmp_path: Path) -> None:
    process = slow_call(place, tmp_path)
    assert process.poll() is None
    process._connection.close()
    said(process)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{process.pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_its_server_a_call_counts_as_killed_and_the_next_starts_the_program(
    project: Path, tmp_path: Path
) -> None:
    place = Settings(data_dir=tmp_path / "data", dbt_project_dir=project)
    with preloaded(place, None):
        wait_for(socket_path(place))
        process = slow_call(place, tmp_path)
        (server,) = [pid for pid in children_of(os.getpid()) if process.pid in children_of(pid)]
        os.kill(server, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        said(process)
        stop(call(place, tmp_path, "ls"))


def test_a_path_too_long_for_a_socket_is_no_obstacle(project: Path, tmp_path: Path) -> None:
    place = Settings(data_dir=tmp_path / ("long" * 30), dbt_project_dir=project)
    with preloaded(place, None):
        stop(call(place, tmp_path, "ls"))
