"""The sample world's server as a process: started once whoever asks, restarted when it must be, gone when stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

from dagster_project.sample import process
from dagster_project.sample.process import SampleWorldError, WorldInfo, ensure_running, status, stop


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "state"
    yield state
    stop(state)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _until(holds: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def _start(folder: Path) -> WorldInfo:
    return ensure_running(folder, 1)


def test_started_once_and_found_again(folder: Path) -> None:
    assert status(folder) is None
    started = time.perf_counter()
    info = ensure_running(folder, 1)
    assert time.perf_counter() - started < 5
    assert ensure_running(folder, 1) == info == status(folder)
    assert json.loads((folder / "world.json").read_text(encoding="utf-8"))["gutenberg_url"] == info.gutenberg_url
    health = requests.get(urljoin(info.bookshop_url, "/healthz"), timeout=10).json()
    assert (health["revision"], health["scale"], health["version"], health["pid"]) == (1, 1.0, info.version, info.pid)
    assert os.getsid(info.pid) == info.pid  # a session of its own: a terminal that closes doesn't take it along


def test_two_starters_at_once_get_one_server(folder: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        infos = list(pool.map(_start, [folder] * 4))
    assert len({info.pid for info in infos}) == 1
    assert _runs(infos[0].pid)


def test_another_revision_or_scale_restarts_on_the_same_port(folder: Path) -> None:
    first = ensure_running(folder, 1)
    second = ensure_running(folder, 2)
    third = ensure_running(folder, 2, 2.0)
    assert first.port == second.port == third.port
    assert not _runs(first.pid)
    assert not _runs(second.pid)
    health = requests.get(urljoin(third.bookshop_url, "/healthz"), timeout=10).json()
    assert (health["revision"], health["scale"]) == (2, 2.0)


def test_other_code_restarts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_running(folder, 1)
    monkeypatch.setattr(process, "code_version", lambda: "another")
    assert ensure_running(folder, 1).pid != first.pid
    assert not _runs(first.pid)


def test_killed_server_is_started_again_on_its_port(folder: Path) -> None:
    first = ensure_running(folder, 1)
    os.kill(first.pid, signal.SIGKILL)
    assert _until(lambda: not _runs(first.pid))
    assert status(folder) is None
    second = ensure_running(folder, 1)
    assert second.port == first.port
    assert second.pid != first.pid


def test_a_hung_server_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_running(folder, 1)
    os.kill(first.pid, signal.SIGSTOP)
    monkeypatch.setattr(process, "HEALTH_SECONDS", 0.3)
    monkeypatch.setattr(process, "STOP_SECONDS", 0.3)
    second = ensure_running(folder, 1)
    assert second.pid != first.pid
    assert not _runs(first.pid)


def test_a_stale_pid_of_another_program_is_left_alone(folder: Path) -> None:
    info = ensure_running(folder, 1)
    os.kill(info.pid, signal.SIGKILL)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        try:
            state = json.loads((folder / "world.json").read_text(encoding="utf-8"))
            (folder / "world.json").write_text(json.dumps({**state, "pid": bystander.pid}), encoding="utf-8")
            assert status(folder) is None
            assert stop(folder) is False
            again = ensure_running(folder, 1)
            assert again.pid != bystander.pid
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_taken_port_is_avoided(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HEALTH_SECONDS", 0.3)  # the other program accepts and says nothing
    first = ensure_running(folder, 1)
    assert stop(folder)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.port))
        other.listen()
        second = ensure_running(folder, 1)
        assert second.port != first.port
        assert requests.get(second.gutenberg_url + "/books", timeout=10).status_code == 200


def test_stop_leaves_nothing_over(folder: Path) -> None:
    info = ensure_running(folder, 1)
    assert stop(folder) is True
    assert not _runs(info.pid)
    assert stop(folder) is False
    assert status(folder) is None
    assert stop(folder / "never-was") is False
    with pytest.raises(requests.ConnectionError):
        requests.get(info.gutenberg_url, timeout=2)


def test_a_client_that_does_not_read_cannot_keep_the_server(folder: Path) -> None:
    info = ensure_running(folder, 1)
    with socket.create_connection(("127.0.0.1", info.port), timeout=10) as client:
        client.settimeout(0.2)
        with pytest.raises((TimeoutError, ConnectionError)):
            client.sendall(b"GET /api/books HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000)
        started = time.perf_counter()
        assert stop(folder) is True
        assert time.perf_counter() - started < process.STOP_SECONDS


def test_a_server_whose_folder_is_deleted_ends_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    info = ensure_running(folder, 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert _until(lambda: not _runs(info.pid))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "port": null}'])
def test_a_damaged_state_file_is_no_obstacle(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "world.json").write_text(content, encoding="utf-8")
    assert status(folder) is None
    assert stop(folder) is False
    assert requests.get(ensure_running(folder, 1).gutenberg_url + "/books", timeout=10).status_code == 200


def test_what_cannot_be_is_refused_before_anything_starts(folder: Path) -> None:
    with pytest.raises(ValueError, match="revision is 0"):
        ensure_running(folder, 0)
    with pytest.raises(ValueError, match="scale is -1"):
        ensure_running(folder, 1, -1)
    assert not folder.exists()


def test_a_server_that_does_not_start_is_reported_with_its_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SampleWorldError, match="did not start"):
        ensure_running(folder, 1)


def test_a_large_world_starts_at_once_and_stays_small(folder: Path) -> None:
    started = time.perf_counter()
    info = ensure_running(folder, 2, 100)
    assert time.perf_counter() - started < 5
    count = requests.get(info.gutenberg_url + "/books", timeout=10).json()["count"]
    assert count > 35_000
    with requests.Session() as session:
        for page in (1, 500, 1000, -(-count // 32)):
            url = f"{info.gutenberg_url}/books?page={page}&updated_since=2020-01-01"
            assert session.get(url, timeout=10).status_code == 200
        assert session.get(f"{info.bookshop_url}catalogue/page-900.html", timeout=10).status_code == 200
    resident = Path(f"/proc/{info.pid}/statm").read_text(encoding="ascii").split()[1]
    assert int(resident) * os.sysconf("SC_PAGE_SIZE") < 60_000_000


def test_the_command_serves_in_the_foreground_until_interrupted() -> None:
    command = [sys.executable, "-m", "dagster_project.sample", "serve", "--port", "0", "--revision", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            line = served.stderr.readline()
            url = line.split()[-1]
            assert requests.get(f"{url}healthz", timeout=10).json()["revision"] == 3
            served.send_signal(signal.SIGINT)
            assert served.wait(10) == 0
        finally:
            served.kill()


def test_the_command_names_a_taken_port_and_a_wrong_scale() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "dagster_project.sample", "serve", "--port", port]
        taken = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert taken.returncode == 1
    assert port in taken.stderr
    assert "--port" in taken.stderr
    command = [sys.executable, "-m", "dagster_project.sample", "summary", "--scale", "-3"]
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert wrong.returncode == 2
    assert "scale is -3" in wrong.stderr


def test_the_commands_write_drops_and_count(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dagster_project.sample", "drops", str(tmp_path / "drop")]
    for expected in ("5 files written, 0 unchanged", "0 files written, 5 unchanged"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert expected in done.stdout
    command = [sys.executable, "-m", "dagster_project.sample", "summary", "--revision", "2"]
    summary = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    assert summary["books"] > 300
    assert summary["products_reachable"] == summary["products"] - summary["products_dead"]


def test_the_package_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "import dagster_project.sample.process, dagster_project.sample.drops, dagster_project.sample.server\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['dagster_project']"
