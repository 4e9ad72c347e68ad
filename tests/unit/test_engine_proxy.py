"""The proxy's rules, as tables: which requests there are, what a container may be."""

from __future__ import annotations

import copy
import json
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given, settings

from dagster_project.execution.engine_proxy.body import Ours, check_creation
from dagster_project.execution.engine_proxy.messages import Refused, parse_head, parse_json
from dagster_project.execution.engine_proxy.policy import Plan, Port, decide
from tests.unit import engine_proxy_attacks as attacks
from tests.unit import engine_proxy_oracle as oracle
from tests.unit.engine_proxy_world import OURS

ID = "a" * 64
ABSENT = object()


def asked(raw: bytes, port: Port = Port.LAUNCH, ours: Ours = OURS) -> Plan:
    head, _, body = raw.partition(b"\r\n\r\n")
    request = parse_head(head + b"\r\n\r\n")
    assert len(body) == request.length
    return decide(port, type(request)(request.method, request.path, request.query, request.length, body), ours)


def line(plan: Plan) -> str:
    return plan.message(ID, "c" * 64).split(b"\r\n")[0].decode()


def with_field(path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(oracle.creation())
    *parents, last = path.split("/")
    place: Any = body
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return body


def test_the_allowed_container_passes_and_what_is_sent_is_written_anew() -> None:
    plan = asked(attacks.post("/v1.45/containers/create?name=shelf-step-a", oracle.creation()))
    head, _, body = plan.message().partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1.45/containers/create?name=shelf-step-a HTTP/1.1",
        b"Host: docker",
        b"Connection: close",
        b"Content-Type: application/json",
        f"Content-Length: {len(body)}".encode(),
    ]
    # docker-py's network a level too high is ignored by engines, so it isn't passed on.
    expected = {**oracle.creation(), "NetworkingConfig": {"EndpointsConfig": {"shelf-platform": {}}}}
    assert json.loads(body) == expected
    assert oracle.judge(plan.message(), "launch") == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Image", "bindery/dagster"),
        ("Image", "bindery/dagster@sha256:1"),
        ("Image", "docker.io/bindery/dagster:1"),
        ("Image", "bindery/dagster/x:1"),
        ("Image", "bindery/dagster:1:2"),
        ("Image", "python:3.13"),
        ("Image", "python:3.13-slim:x"),
        ("Image", "sha256:" + "0" * 64),
        ("Image", ABSENT),
        ("Image", ["bindery/dagster:1"]),
        ("User", "root"),
        ("User", "0"),
        ("User", "0:10001"),
        ("User", "00"),
        ("User", "+0"),
        ("User", "-0"),
        ("User", "10001:0"),
        ("User", "10001:root"),
        ("User", ":0"),
        ("User", 0),
        ("Entrypoint", []),
        ("Entrypoint", [""]),
        ("Entrypoint", "sh"),
        ("Shell", ["sh"]),
        ("Labels", ABSENT),
        ("Labels/bindery.project", "other"),
        ("Labels/bindery.kind", "service"),
        ("Labels/bindery.kind", ABSENT),
        ("Labels/com.docker.compose.project", "shelf"),
        ("Volumes", {"/elsewhere": {}}),
        ("ExposedPorts", {"80/tcp": {}}),
        ("Healthcheck", {"Test": ["CMD", "x"]}),
        ("MacAddress", "02:42:ac:11:00:02"),
        ("Unknown", None),
        ("hostconfig", {"Privileged": True}),
        ("HostConfig", ABSENT),
        ("HostConfig", None),
        ("HostConfig", []),
        ("HostConfig/Privileged", True),
        ("HostConfig/privileged", True),
        ("HostConfig/Privileged", "false"),
        ("HostConfig/CapAdd", ["SYS_ADMIN"]),
        ("HostConfig/CapDrop", ["NET_RAW"]),
        ("HostConfig/CapDrop", []),
        ("HostConfig/CapDrop", ABSENT),
        ("HostConfig/SecurityOpt", ABSENT),
        ("HostConfig/SecurityOpt", ["no-new-privileges:false"]),
        ("HostConfig/SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
        ("HostConfig/SecurityOpt", ["no-new-privileges:true", "no-new-privileges:false"]),
        ("HostConfig/Devices", [{"PathOnHost": "/dev/sda"}]),
        ("HostConfig/Devices", [0, 0]),
        ("HostConfig/ConsoleSize", [24, 80]),
        ("HostConfig/DeviceCgroupRules", ["a *:* rwm"]),
        ("HostConfig/DeviceRequests", [{"Count": -1, "Capabilities": [["gpu"]]}]),
        ("HostConfig/PidMode", "host"),
        ("HostConfig/IpcMode", "host"),
        ("HostConfig/IpcMode", "shareable"),
        ("HostConfig/UTSMode", "host"),
        ("HostConfig/UsernsMode", "host"),
        ("HostConfig/CgroupnsMode", "host"),
        ("HostConfig/CgroupParent", "/"),
        ("HostConfig/NetworkMode", "host"),
        ("HostConfig/NetworkMode", "bridge"),
        ("HostConfig/NetworkMode", "container:shelf-postgres-1"),
        ("HostConfig/NetworkMode", ["shelf-platform"]),
        ("HostConfig/NetworkMode", ABSENT),
        ("HostConfig/Binds", ["/:/host"]),
        ("HostConfig/Binds", ["/var/run/docker.sock:/s:ro"]),
        ("HostConfig/Binds", ["shelf-landing:/x:ro", "/etc:/etc"]),
        ("HostConfig/Binds", ["shelf-postgres:/x"]),
        ("HostConfig/Binds", ["shelf-landing:/x:z"]),
        ("HostConfig/Binds", ["shelf-landing:/x/../etc"]),
        ("HostConfig/Binds", ["shelf-landing:x"]),
        ("HostConfig/Binds", ["shelf-landing"]),
        ("HostConfig/Binds", ["shelf-secrets:/x"]),
        ("HostConfig/Binds", ["shelf-secrets:/x:rw"]),
        ("HostConfig/Binds", [1]),
        ("HostConfig/Mounts/0/Type", "bind"),
        ("HostConfig/Mounts/0/Type", ABSENT),
        ("HostConfig/Mounts/0/Source", "/"),
        ("HostConfig/Mounts/0/Source", "shelf-postgres"),
        ("HostConfig/Mounts/0/ReadOnly", False),
        ("HostConfig/Mounts/0/ReadOnly", ABSENT),
        ("HostConfig/Mounts/0/Target", ABSENT),
        ("HostConfig/Mounts/0/BindOptions", {"Propagation": "shared"}),
        ("HostConfig/Mounts/0/VolumeOptions", {"DriverConfig": {"Name": "local", "Options": {"device": "/"}}}),
        ("HostConfig/Mounts/1/Source", "/"),
        ("HostConfig/Mounts/1/TmpfsOptions", {"Options": [["dev"]]}),
        ("HostConfig/Mounts", {"Type": "bind"}),
        ("HostConfig/Tmpfs", {"/tmp": "dev"}),
        ("HostConfig/Tmpfs", {"/a/../b": ""}),
        ("HostConfig/VolumesFrom", ["shelf-postgres-1"]),
        ("HostConfig/VolumeDriver", "nfs"),
        ("HostConfig/Links", ["postgres"]),
        ("HostConfig/PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
        ("HostConfig/PublishAllPorts", True),
        ("HostConfig/Runtime", "nvidia"),
        ("HostConfig/Sysctls", {"kernel.shm_rmid_forced": "0"}),
        ("HostConfig/RestartPolicy", {"Name": "always"}),
        ("HostConfig/LogConfig", {"Type": "syslog"}),
        ("HostConfig/LogConfig", {"Type": "json-file", "Config": {"env": "A"}}),
        ("HostConfig/OomKillDisable", True),
        ("HostConfig/OomScoreAdj", -1000),
        ("HostConfig/Memory", 0),
        ("HostConfig/Memory", ABSENT),
        ("HostConfig/Memory", 1.5),
        ("HostConfig/MemorySwap", -1),
        ("HostConfig/MemorySwap", 1),
        ("HostConfig/PidsLimit", -1),
        ("HostConfig/PidsLimit", ABSENT),
        ("HostConfig/MaskedPaths", []),
        ("HostConfig/ReadonlyPaths", []),
        ("HostConfig/GroupAdd", ["0"]),
        ("HostConfig/ExtraHosts", ["postgres:1.2.3.4"]),
        ("HostConfig/AutoRemove", True),
        ("HostConfig/Ulimits", [{"Name": "nofile", "Hard": 1, "Soft": 1}]),
        ("HostConfig/Annotations", {"a": "b"}),
        ("NetworkingConfig/EndpointsConfig", {"bridge": {}}),
        ("NetworkingConfig/EndpointsConfig/shelf-platform", {"Aliases": ["postgres"]}),
        ("NetworkingConfig/endpointsconfig", {"bridge": {}}),
        ("NetworkingConfig/shelf-platform", {}),
    ],
)
def test_containers_that_could_reach_more_are_refused(path: str, value: Any) -> None:
    with pytest.raises(Refused) as refused:
        asked(attacks.post("/v1.45/containers/create", with_field(path, value)))
    assert refused.value.status in (HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST)
    # The message names the field, so that whoever wrote it finds it.
    field = path.replace("/", ".").split(".")[1 if path.startswith("HostConfig/") else 0]
    assert field.lower() in refused.value.rule.lower() or path == "HostConfig"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Image", f"bindery/dagster@{oracle.DIGEST}"),
        ("Image", f"bindery/dagster:1@{oracle.DIGEST}"),
        ("Image", "registry.test:5000/bindery/dbt:1"),
        ("Image", "python:3.13-slim"),
        ("User", ABSENT),
        ("User", ""),
        ("User", "10001"),
        ("HostConfig/Binds", None),
        ("HostConfig/Mounts", []),
        ("HostConfig/SecurityOpt", ["no-new-privileges"]),
        ("HostConfig/Runtime", "runc"),
        ("HostConfig/ConsoleSize", [0, 0]),
        ("HostConfig/PidMode", ""),
        ("HostConfig/MaskedPaths", None),
        ("NetworkingConfig", ABSENT),
        ("NetworkingConfig", None),
        ("Healthcheck", {"Test": ["NONE"]}),
    ],
)
def test_what_clients_write_for_nothing_passes(path: str, value: Any) -> None:
    if path in ("HostConfig/Binds", "HostConfig/Mounts"):
        body = with_field(path, value)
        del body["Volumes"]
    else:
        body = with_field(path, value)
    assert oracle.harm(check_creation(body, OURS)) == []


def test_gpus_are_for_those_that_were_started_with_them() -> None:
    ours = Ours(OURS.project, OURS.images, OURS.networks, OURS.volumes, allow_gpu=True)
    request = {"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
    check_creation(with_field("HostConfig/DeviceRequests", [request]), ours)
    for change in ({"Driver": "cdi"}, {"Capabilities": [["admin"]]}, {"Capabilities": None}, {"Options": {"a": "b"}}):
        with pytest.raises(Refused, match="DeviceRequests"):
            check_creation(with_field("HostConfig/DeviceRequests", [{**request, **change}]), ours)


@pytest.mark.parametrize("name", ["postgres", "shelf-postgres", "shelf-run-", "other-step-a", "shelf-step-a/b", ""])
def test_a_container_is_not_called_like_a_service(name: str) -> None:
    with pytest.raises(Refused, match="is called"):
        asked(attacks.post(f"/containers/create?name={name}", oracle.creation()))


@pytest.mark.parametrize(
    ("request_line", "launch", "supervise"),
    [
        ("GET /_ping", "GET /_ping", "GET /_ping"),
        ("HEAD /v1.24/_ping", "HEAD /v1.24/_ping", "HEAD /v1.24/_ping"),
        ("GET /v1.45/version", "GET /v1.45/version", "GET /v1.45/version"),
        ("GET /v1.45/containers/x/json", f"GET /v1.45/containers/{ID}/json", f"GET /v1.45/containers/{ID}/json"),
        ("GET /containers/x/stats", f"GET /containers/{ID}/stats?stream=0", f"GET /containers/{ID}/stats?stream=0"),
        ("GET /containers/x/stats?stream=1", None, None),
        ("POST /containers/x/start", f"POST /containers/{ID}/start", None),
        ("POST /containers/x/start?checkpoint=a", None, None),
        ("POST /containers/x/stop?t=3", f"POST /containers/{ID}/stop?t=3", f"POST /containers/{ID}/stop?t=3"),
        ("POST /containers/x/kill?signal=SIGTERM", *2 * (f"POST /containers/{ID}/kill?signal=SIGTERM",)),
        ("POST /containers/x/kill?signal=%0a", None, None),
        ("POST /containers/x/wait?condition=removed", *2 * (f"POST /containers/{ID}/wait?condition=removed",)),
        ("DELETE /containers/x?force=True", None, f"DELETE /containers/{ID}?force=1"),
        ("DELETE /containers/x?link=1", None, None),
        ("GET /networks/n", *2 * (f"GET /networks/{'c' * 64}",)),
        ("GET /images/bindery/dagster:1/json", *2 * ("GET /images/bindery/dagster:1/json",)),
        ("GET /images/debian:13/json", None, None),
        ("GET /images/bindery/dagster/../../info/json", None, None),
        ("POST /v1.24/containers/x/stop", None, None),
        ("POST /v2.0/containers/x/stop", None, None),
        *(
            (f"{method} {path}", None, None)
            for method, path in [
                ("POST", "/containers/x/exec"),
                ("POST", "/exec/x/start"),
                ("POST", "/containers/x/attach"),
                ("GET", "/containers/x/attach/ws"),
                ("GET", "/containers/x/export"),
                ("GET", "/containers/x/archive?path=/"),
                ("HEAD", "/containers/x/archive?path=/"),
                ("GET", "/containers/x/top"),
                ("GET", "/containers/x/changes"),
                ("POST", "/containers/x/rename?name=y"),
                ("POST", "/containers/x/update"),
                ("POST", "/containers/x/restart"),
                ("POST", "/containers/x/pause"),
                ("POST", "/containers/x/resize"),
                ("POST", "/containers/prune"),
                ("POST", "/commit?container=x"),
                ("POST", "/build"),
                ("POST", "/images/create?fromImage=x"),
                ("POST", "/images/load"),
                ("DELETE", "/images/bindery/dagster:1"),
                ("POST", "/images/bindery/dagster:1/push"),
                ("GET", "/images/json"),
                ("GET", "/images/bindery/dagster:1/get"),
                ("GET", "/volumes"),
                ("POST", "/volumes/create"),
                ("DELETE", "/volumes/x"),
                ("POST", "/networks/create"),
                ("DELETE", "/networks/n"),
                ("POST", "/networks/n/disconnect"),
                ("GET", "/networks"),
                ("GET", "/info"),
                ("GET", "/system/df"),
                ("POST", "/auth"),
                ("POST", "/session"),
                ("POST", "/swarm/init"),
                ("GET", "/plugins"),
                ("GET", "/secrets"),
                ("GET", "/"),
            ]
        ),
    ],
)
def test_the_table_of_requests(request_line: str, launch: str | None, supervise: str | None) -> None:
    raw = f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for port, expected in ((Port.LAUNCH, launch), (Port.SUPERVISE, supervise)):
        if expected is None:
            with pytest.raises(Refused):
                asked(raw, port)
        else:
            assert line(asked(raw, port)) == f"{expected} HTTP/1.1"


def test_only_the_launch_port_makes_containers_and_joins_networks() -> None:
    for path, body in (
        ("/containers/create", oracle.creation()),
        ("/networks/net/connect", {"Container": "x"}),
        ("/containers/x/start", None),
    ):
        asked(attacks.post(path, body), Port.LAUNCH)
        with pytest.raises(Refused, match="supervise port"):
            asked(attacks.post(path, body), Port.SUPERVISE)


@pytest.mark.parametrize(
    ("filters", "labels"),
    [
        ("", []),
        ('{"label":["bindery.run=1"]}', ["bindery.run=1"]),
        ('{"label":{"bindery.project=other":true},"status":["exited"]}', ["bindery.project=other"]),
    ],
)
def test_lists_and_events_hold_runs_and_steps_of_ours_alone(filters: str, labels: list[str]) -> None:
    for port, path in ((Port.LAUNCH, "/containers/json"), (Port.SUPERVISE, "/events")):
        query = {"filters": filters} if filters else {}
        plan = decide(port, parse_head(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n"), OURS)
        assert oracle.judge(plan.message(), port.value) == []
        request = type(parse_head(attacks.get(path)))("GET", path, query)
        told = json.loads(decide(port, request, OURS).query["filters"])
        assert told["label"] == [*labels, "bindery.project=shelf", "bindery.kind"]
        assert told.get("type") == (["container"] if path == "/events" else None)


@pytest.mark.parametrize(
    "filters", ['{"volume":["x"]}', '{"label":"x"}', '{"label":[1]}', '{"label":{"a":false}}', "[]"]
)
def test_other_filters_are_refused(filters: str) -> None:
    request = type(parse_head(attacks.get("/containers/json")))("GET", "/containers/json", {"filters": filters})
    with pytest.raises(Refused):
        decide(Port.LAUNCH, request, OURS)


@pytest.mark.parametrize(
    "body",
    [
        {"Container": "x", "EndpointConfig": {"Aliases": ["postgres"]}},
        {"Container": "x", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}},
        {"Container": "../x"},
        {"Container": ""},
        {"Container": None},
        {"Container": "x", "container": "y"},
        {"Container": "x", "Force": True},
        {},
    ],
)
def test_joining_a_network_is_all_a_connection_does(body: object) -> None:
    with pytest.raises(Refused):
        asked(attacks.post("/networks/net/connect", body))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"a":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\\u0000"}',
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":1}{',
        b'{"a":1}x',
        b"\xff\xfe{}",
        b'\xef\xbb\xbf{"a":1}',
        b"[]",
        b"1",
        b"",
        b"[" * 100_000,
        b'{"a":' * 20 + b"1" + b"}" * 20,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_json_with_two_meanings_or_none_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse_json(raw)
    assert refused.value.status == HTTPStatus.BAD_REQUEST


@given(attacks.creations())
@settings(max_examples=400, deadline=None)
def test_whatever_container_passes_is_harmless_to_another_judge(body: dict[str, Any]) -> None:
    try:
        told = check_creation(parse_json(json.dumps(body)), OURS)
    except Refused:
        return
    assert oracle.harm(told) == []


def test_the_other_judge_sees_harm() -> None:
    # A judge that finds nothing would make the fuzzing worthless.
    assert oracle.harm(oracle.creation()) == []
    for path, value in [
        ("HostConfig/privileged", True),
        ("HostConfig/Binds", ["/:/h"]),
        ("image", "x:y"),
        ("User", "0"),
    ]:
        assert oracle.harm(with_field(path, value)) != []
    assert oracle.judge(attacks.get("/info").replace(b"engine", b"docker"), "launch") != []
