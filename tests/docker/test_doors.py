"""Who gets in where: logins, TLS, networks, and where secrets must not show."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.docker.stack import LAUNCH, TERMINATE, Stack, docker, free_port, wait_for

pytestmark = pytest.mark.timeout(300)


def test_nobody_gets_in_without_a_login(stack: Stack) -> None:
    for path in ("/", "/graphql", "/server_info", "/runs", "/logs/x", "/favicon.ico"):
        answer = stack.http(path, login=None)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert b"dagster" not in answer.body.lower()
    assert stack.http("/graphql", login=None, body={"query": "{ version }"}).status == 401


@pytest.mark.parametrize("password", ["", "operator", "wrong", "postgres"])
def test_a_wrong_password_is_none(stack: Stack, password: str) -> None:
    assert stack.http("/", password=password).status == 401
    assert stack.http("/", login="admin", password=password).status == 401


@pytest.mark.parametrize("login", ["operator", "viewer"])
def test_both_logins_see_the_ui(stack: Stack, login: str) -> None:
    answer = stack.http("/", login)
    assert answer.status == 200
    assert answer.body.startswith(b"<!DOCTYPE html>")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "server" not in answer.headers
    assert stack.graphql("{ version }", login)["version"]


def test_the_viewer_launches_and_ends_nothing(stack: Stack) -> None:
    before = len(stack.runs())
    selector = {"repositoryLocationName": "bindery", "repositoryName": "__repository__", "jobName": "pipeline"}
    told = stack.graphql(LAUNCH, "viewer", p={"selector": selector, "runConfigData": {}, "mode": "default"})
    assert told["launchRun"]["__typename"] == "UnauthorizedError"
    run = stack.runs()[0]["runId"]
    # This run is over; test_probe.py shows that a running one goes on.
    assert stack.graphql(TERMINATE, "viewer", run=run)["terminateRun"]["__typename"] != "TerminateRunSuccess"
    query = """query { sensorsOrError(repositorySelector: {
      repositoryLocationName: "bindery", repositoryName: "__repository__"}) { ... on Sensors { results { id } } } }"""
    sensor = stack.graphql(query)["sensorsOrError"]["results"][0]["id"]
    stop = """mutation($id: String!) { stopSensor(id: $id) { __typename } wipeAssets(assetPartitionRanges: []) {
      __typename } }"""
    answers = stack.graphql(stop, "viewer", id=sensor)
    assert answers == {name: {"__typename": "UnauthorizedError"} for name in ("stopSensor", "wipeAssets")}
    assert len(stack.runs()) == before


def test_a_logins_name_in_a_header_is_worth_nothing(stack: Stack) -> None:
    """The proxy decides by the password; nothing a browser sends besides changes where it leads."""
    told = stack.http("/graphql?user=operator", "viewer", {"query": "{ permissions { permission value } }"})
    permissions = json.loads(told.body)["data"]["permissions"]
    assert not any(
        each["value"] for each in permissions if each["permission"].startswith(("launch", "wipe", "terminate"))
    )


def test_the_one_published_port_is_on_this_machine_alone(stack: Stack) -> None:
    shown = docker("ps", "--filter", f"label=bindery.project={stack.project}", "--format", "{{.Names}} {{.Ports}}")
    published = [line for line in shown.splitlines() if "->" in line]
    assert len(published) == 1
    assert published[0].startswith(f"{stack.container('proxy')} ")
    assert f"127.0.0.1:{stack.port}->3000/tcp" in published[0]
    assert "0.0.0.0" not in published[0]


CONNECT = "timeout 3 bash -c '</dev/tcp/{host}/{port}' 2>/dev/null && echo open || echo closed"


@pytest.mark.parametrize(
    ("service", "host", "port", "answer"),
    [
        ("webserver", "postgres", 5432, "open"),
        ("webserver", "engine", 2375, "open"),
        ("webserver", "engine-supervise", 2376, "closed"),
        ("viewer", "engine", 2375, "closed"),
        ("code", "engine", 2375, "closed"),
        ("code", "engine-supervise", 2376, "closed"),
        ("world", "engine", 2375, "closed"),
        ("supervisor", "engine-supervise", 2376, "open"),
        ("supervisor", "engine", 2375, "closed"),
        ("engine", "postgres", 5432, "closed"),
    ],
)
def test_networks_connect_what_needs_each_other(stack: Stack, service: str, host: str, port: int, answer: str) -> None:
    words = ("exec", stack.container(service), "bash", "-c", CONNECT.format(host=host, port=port))
    assert docker(*words) == answer


@pytest.mark.parametrize("service", ["postgres", "code", "daemon", "engine", "engine-supervise", "world"])
def test_the_front_reaches_neither_the_database_nor_the_engine(stack: Stack, service: str) -> None:
    """By name and by address: the proxy and what it talks to share one network, and that holds nothing else."""
    networks = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", stack.container(service)))
    assert f"{stack.project}-front" not in networks
    address = next(network["IPAddress"] for network in networks.values())
    port = {"postgres": 5432, "code": 4266, "world": 8080, "engine": 2375, "engine-supervise": 2376}.get(service, 3000)
    for host in (service, address):
        words = (
            *("run", "--rm", "--network", f"{stack.project}-front", "bindery/dagster:test"),
            *("bash", "-c", CONNECT.format(host=host, port=port)),
        )
        assert docker(*words) == "closed"


def test_nobody_is_root_and_everything_is_read_only(stack: Stack) -> None:
    names = docker(
        "ps", "--filter", f"label=com.docker.compose.project={stack.project}", "--format", "{{.Names}}"
    ).split()
    assert len(names) >= 10
    for told in json.loads(docker("inspect", *names)):
        host, name = told["HostConfig"], told["Name"]
        assert told["Config"]["User"].split(":")[0] in {"10001", "999"}, name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert not host["Privileged"], name
        processes = docker("top", told["Id"], "-eo", "pid,uid").splitlines()[1:]
        assert {line.split()[1] for line in processes} == {"999" if "postgres" in name else "10001"}, name


def test_no_secret_shows_anywhere(stack: Stack) -> None:
    """Looks for the values themselves, in all that people see without being the operator."""
    known = {
        f"{volume}/{name}": value.strip()
        for volume in ("secrets-admin", "secrets")
        for name, value in stack.secrets(volume).items()
        if name.endswith("password")
    }
    assert len(known) >= 10
    names = docker("ps", "-a", "--filter", f"label=bindery.project={stack.project}", "--format", "{{.Names}}").split()
    running = docker("ps", "--filter", f"label=bindery.project={stack.project}", "--format", "{{.Names}}").split()
    seen = {
        "inspect": docker("inspect", *names),
        "logs": stack.compose("logs", "--no-color"),
        "events": (stack.folder / "events.jsonl").read_text() if (stack.folder / "events.jsonl").exists() else "",
        "event log": stack.psql("postgres", stack.superuser_password, "select event from event_logs", "dagster"),
        "runs": stack.psql("postgres", stack.superuser_password, "select run_body from runs", "dagster"),
        "compute logs": docker(
            "exec", stack.container("code"), "bash", "-c", "cat $(find /data/logs -type f) /dev/null"
        ),
        "images": "".join(docker("history", "--no-trunc", f"bindery/{name}:test") for name in ("dagster", "dbt")),
        "variables": "".join(docker("exec", stack.container(name), "env") for name in ("code", "postgres", "daemon")),
        "process list": "".join(docker("top", name, "-eo", "pid,args", check=False) for name in running),
    }
    assert len(seen["event log"]) > 10_000
    shown = [(place, name) for place, text in seen.items() for name, value in known.items() if value in text]
    assert shown == []


@pytest.fixture
def tls_port(stack: Stack) -> Iterator[int]:
    """A second proxy beside the first, as BINDERY_HOST and BINDERY_TLS make it."""
    name, port = f"{stack.project}-tls", free_port()
    docker(
        *("run", "-d", "--name", name, "--network", f"{stack.project}-front", "--user", "10001:10001"),
        *("--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", "--read-only", "--tmpfs", "/tmp:mode=1777"),
        *("-e", "SITE=https://localhost:3000", "-e", "TLS=tls internal", "-e", "CADDY_OPTIONS=skip_install_trust"),
        *("-e", "XDG_DATA_HOME=/tmp", "-e", "XDG_CONFIG_HOME=/tmp", "-p", f"127.0.0.1:{port}:3000"),
        *("-v", f"{stack.project}-secrets-front:/run/bindery/front:ro"),
        *("--volumes-from", f"{stack.container('proxy')}:ro", "caddy:2"),
    )
    yield port
    docker("rm", "-f", "-v", name)


def test_with_a_host_name_there_is_tls(stack: Stack, tls_port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def ask() -> str:
        try:
            plain = socket.create_connection(("127.0.0.1", tls_port), 3)
            with plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return f"{secure.version()} {secure.recv(100).decode(errors='replace').splitlines()[0]}"
        except OSError:
            return ""

    assert wait_for("TLS", 20, ask) in {"TLSv1.3 HTTP/1.1 401 Unauthorized", "TLSv1.3 HTTP/1.0 401 Unauthorized"}
    with socket.create_connection(("127.0.0.1", tls_port), 3) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)
        assert b"401" not in plain.recv(1000).splitlines()[0], "no login is asked for over plain HTTP"
