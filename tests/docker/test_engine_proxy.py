"""The proxy in front of the real engine: what it lets through works, and what it refuses leaves nothing behind.

Needs a Docker engine and the image ``python:3.13-slim`` on it; makes its own network, volume and containers, by a
project name of its own, and removes them. Speaks plain HTTP, so that it needs no client of Docker's.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

IMAGE = os.environ.get("BINDERY_TEST_IMAGE", "python:3.13-slim")
API = "/v1.43"


def docker(*words: str) -> str:
    """Ask the engine itself, past the proxy."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Engine:
    """A proxy in front of the engine, and what is called ours there."""

    project: str
    launch: int
    supervise: int

    @property
    def network(self) -> str:
        return f"{self.project}-platform"

    @property
    def volume(self) -> str:
        return f"{self.project}-landing"

    def ask(self, method: str, path: str, body: object = None, *, supervise: bool = False) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.supervise if supervise else self.launch, timeout=60)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, API + path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(data) if data else None
        except ValueError:
            return answer.status, data

    def description(self, *command: str, **host: Any) -> dict[str, Any]:
        return {
            "Image": IMAGE,
            "Cmd": list(command) or ["sleep", "60"],
            "User": "10001:10001",
            "Labels": {"bindery.project": self.project, "bindery.kind": "step"},
            "HostConfig": {
                "NetworkMode": self.network,
                "Mounts": [{"Type": "volume", "Source": self.volume, "Target": "/data", "ReadOnly": True}],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "Memory": 2**28,
                "PidsLimit": 64,
                "ReadonlyRootfs": True,
                **host,
            },
        }

    def start(self, name: str, *command: str) -> str:
        status, made = self.ask(
            "POST", f"/containers/create?name={self.project}-step-{name}", self.description(*command)
        )
        assert status == 201, made
        assert self.ask("POST", f"/containers/{made['Id']}/start") == (204, None)
        return str(made["Id"])

    def existing(self) -> str:
        return docker("ps", "-aq", "--no-trunc", "--filter", f"name={self.project}")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    project = f"proxytest{os.getpid()}"
    made = Engine(project, free_port(), free_port())
    docker("network", "create", made.network)
    docker("network", "create", f"{project}-engine")
    docker("volume", "create", made.volume)
    words = ["--project", project, "--image", IMAGE, "--volume", f"{made.volume}:ro", "--listen", "127.0.0.1"]
    words += ["--network", made.network, "--network", f"{project}-engine"]
    words += ["--launch-port", str(made.launch), "--supervise-port", str(made.supervise)]
    proxy = subprocess.Popen([sys.executable, "-m", "dagster_project.execution.engine_proxy", *words])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", made.supervise), 1).close()
                break
            except OSError:
                assert proxy.poll() is None
                assert time.monotonic() < deadline, "the proxy does not listen"
                time.sleep(0.05)
        yield made
    finally:
        proxy.terminate()
        assert proxy.wait(10) == 0
        if left := made.existing().split():
            docker("rm", "-f", *left)
        docker("network", "rm", made.network, f"{project}-engine")
        docker("volume", "rm", made.volume)


@pytest.fixture
def foreign(engine: Engine) -> Iterator[str]:
    """Give a container that carries the project's label as a service does, but is no run and no step."""
    identity = docker("run", "-d", "--label", f"bindery.project={engine.project}", IMAGE, "sleep", "300")
    yield identity
    docker("rm", "-f", identity)


def test_an_allowed_container_is_made_started_watched_and_ended(engine: Engine) -> None:
    identity = engine.start("hello", "python", "-c", "import os; print('hello', os.getuid())")
    assert engine.ask("POST", f"/containers/{identity}/wait")[1]["StatusCode"] == 0
    assert b"hello 10001" in engine.ask("GET", f"/containers/{identity}/logs?stdout=1&stderr=1")[1]
    status, told = engine.ask("GET", f"/containers/{engine.project}-step-hello/json")
    assert (status, told["Id"], told["State"]["ExitCode"]) == (200, identity, 0)
    assert engine.ask("POST", f"/networks/{engine.project}-engine/connect", {"Container": identity})[0] == 200
    assert (
        f"{engine.project}-engine"
        in engine.ask("GET", f"/containers/{identity}/json")[1]["NetworkSettings"]["Networks"]
    )
    assert engine.ask("DELETE", f"/containers/{identity}")[0] == 403
    assert identity in engine.existing()
    assert engine.ask("DELETE", f"/containers/{identity}", supervise=True)[0] == 204
    assert engine.ask("GET", f"/containers/{identity}/json")[0] == 404


def test_a_running_container_is_measured_and_killed(engine: Engine) -> None:
    identity = engine.start("sleeper")
    assert engine.ask("GET", f"/containers/{identity}/stats?stream=false&one-shot=true")[1]["memory_stats"]["usage"] > 0
    assert engine.ask("POST", f"/containers/{identity}/kill?signal=SIGKILL")[0] == 204
    assert engine.ask("POST", f"/containers/{identity}/wait")[1]["StatusCode"] == 137
    assert engine.ask("POST", f"/containers/{identity}/stop?t=1")[0] in (204, 304)


def test_lists_and_events_show_runs_and_steps_of_this_project_alone(engine: Engine, foreign: str) -> None:
    began = int(time.time())
    identity = engine.start("seen", "true")
    engine.ask("POST", f"/containers/{identity}/wait")
    docker("kill", foreign)
    shown = {container["Id"] for container in engine.ask("GET", "/containers/json?all=1")[1]}
    assert identity in shown
    assert foreign not in shown
    other = "%7B%22label%22%3A%5B%22bindery.project%3Dother%22%5D%7D"
    assert engine.ask("GET", f"/containers/json?all=1&filters={other}")[1] == []
    path = f"/events?since={began}&until={int(time.time()) + 1}"
    assert engine.ask("GET", path)[0] == 403, "events are for the supervisor"
    told = engine.ask("GET", path, supervise=True)[1]
    events = [json.loads(line) for line in told.decode().splitlines()] if isinstance(told, bytes) else [told]
    # Containers of the test before may have ended in the same second: theirs is not the question.
    assert {event["Actor"]["Attributes"]["bindery.kind"] for event in events} == {"step"}
    assert foreign not in {event["Actor"]["ID"] for event in events}
    assert {"create", "start", "die"} <= {event["Action"] for event in events if event["Actor"]["ID"] == identity}


@pytest.mark.parametrize("action", ["json", "logs", "start", "stop", "kill", "wait", "exec", "remove", "connect"])
def test_containers_that_are_no_run_or_step_stay_as_they_are(engine: Engine, foreign: str, action: str) -> None:
    before = docker("inspect", "-f", "{{json .State}} {{json .NetworkSettings.Networks}}", foreign)
    if action == "remove":
        told = engine.ask("DELETE", f"/containers/{foreign}?force=1", supervise=True)
    elif action == "connect":
        told = engine.ask("POST", f"/networks/{engine.network}/connect", {"Container": foreign})
    elif action in ("json", "logs"):
        told = engine.ask("GET", f"/containers/{foreign}/{action}")
    else:
        told = engine.ask("POST", f"/containers/{foreign}/{action}")
    assert told[0] == 403
    assert docker("inspect", "-f", "{{json .State}} {{json .NetworkSettings.Networks}}", foreign) == before


@pytest.mark.parametrize(
    "change",
    [
        {"Image": "debian:trixie-slim"},
        {"User": "0"},
        {"Entrypoint": ["sh"]},
        {"Labels": {}},
        {"Labels": {"bindery.project": "other", "bindery.kind": "step"}},
        {"HostConfig": {"Privileged": True}},
        {"HostConfig": {"privileged": True}},
        {"HostConfig": {"CapAdd": ["SYS_ADMIN"]}},
        {"HostConfig": {"Binds": ["/:/host"]}},
        {"HostConfig": {"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}},
        {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]}},
        {"HostConfig": {"PidMode": "host"}},
        {"HostConfig": {"NetworkMode": "host"}},
        {"HostConfig": {"Devices": [{"PathOnHost": "/dev/mem", "PathInContainer": "/dev/mem"}]}},
        {"HostConfig": {"SecurityOpt": ["seccomp=unconfined"]}},
        {"hostconfig": {"Privileged": True}},
    ],
)
def test_containers_that_could_reach_more_are_not_made(engine: Engine, change: dict[str, Any]) -> None:
    body = engine.description()
    host = {**body["HostConfig"], **change.get("HostConfig", {})}
    status, told = engine.ask(
        "POST", f"/containers/create?name={engine.project}-step-bad", {**body, **change, "HostConfig": host}
    )
    assert status == 403
    assert told["message"].startswith("engine proxy: ")
    # Others may use the same engine meanwhile, so that only what bears our name is looked at.
    assert docker("ps", "-aq", "--filter", f"name={engine.project}-step-bad") == ""
    assert docker("volume", "ls", "-q", "--filter", f"name={engine.project}") == engine.volume


def test_a_process_is_not_added_to_a_container_of_ours(engine: Engine) -> None:
    identity = engine.start("closed")
    for path, body in (
        (f"/containers/{identity}/exec", {"Cmd": ["id"]}),
        (f"/containers/{identity}/attach?stream=1", None),
        (f"/containers/{identity}/update", {"Memory": 0}),
        (f"/containers/{identity}/rename?name=postgres", None),
        ("/volumes/create", {"Name": f"{engine.project}-other"}),
        ("/networks/create", {"Name": f"{engine.project}-other"}),
        ("/images/create?fromImage=alpine&tag=3", None),
        ("/build", None),
    ):
        assert engine.ask("POST", path, body)[0] == 403
        assert engine.ask("POST", path, body, supervise=True)[0] == 403
    assert docker("inspect", "-f", "{{json .ExecIDs}} {{.HostConfig.Memory}} {{.Name}}", identity) == (
        f"null {2**28} /{engine.project}-step-closed"
    )
    assert f"{engine.project}-other" not in docker("volume", "ls", "-q") + docker("network", "ls")
