"""Requests near those that are allowed: what somebody would try who wants more of the engine."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.unit.engine_proxy_oracle import DIGEST, creation

EVIL: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    1.5,
    "",
    "0",
    "root",
    "0:0",
    "00:1",
    "1:0",
    "+0",
    "10001:10001",
    "host",
    "none",
    "bridge",
    "container:x",
    "shelf-platform",
    "shelf-engine",
    "shelf-other",
    "/:/host",
    "/var/run/docker.sock:/s",
    "shelf-landing:/x:ro",
    "shelf-secrets:/x:ro",
    "shelf-secrets:/x",
    "shelf-landing:/../x",
    "shelf-landing:/x:ro,z",
    "other:/x",
    "ALL",
    ["ALL"],
    ["NET_ADMIN"],
    ["no-new-privileges:true"],
    ["no-new-privileges:false"],
    ["seccomp=unconfined"],
    ["apparmor=unconfined"],
    "bind",
    "volume",
    "tmpfs",
    "npipe",
    "cluster",
    "private",
    "shareable",
    "runc",
    "nvidia",
    "always",
    "no",
    "syslog",
    "json-file",
    "debian:13",
    "python",
    "python:3.13-slim",
    "bindery/dagster",
    "bindery/dagster:x",
    f"bindery/dagster@{DIGEST}",
    "docker.io/bindery/dagster:x",
    "bindery/dagster2:x",
    "bindery/dagster/x:y",
    DIGEST,
    "shelf",
    "step",
    "other",
    [],
    {},
    [0, 0],
    [[]],
    [["gpu"]],
    {"Name": "always"},
    {"DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/"}}},
    {"Aliases": ["postgres"]},
    [{"Type": "bind", "Source": "/", "Target": "/host"}],
    [{"PathOnHost": "/dev/sda"}],
    [{"Count": -1, "Capabilities": [["gpu"]]}],
    {"80/tcp": [{"HostPort": "80"}]},
    ["/:/host:rw"],
    ["shelf-landing:/a", "/etc:/b"],
    {"com.docker.compose.project": "x"},
    "\ud800",
]
KEYS = [
    "Privileged",
    "privileged",
    "PRIVILEGED",
    "CapAdd",
    "capadd",
    "Binds",
    "binds",
    "Mounts",
    "Devices",
    "DeviceRequests",
    "DeviceCgroupRules",
    "PidMode",
    "IpcMode",
    "UTSMode",
    "UsernsMode",
    "CgroupnsMode",
    "NetworkMode",
    "networkMode",
    "VolumesFrom",
    "Links",
    "PortBindings",
    "PublishAllPorts",
    "Runtime",
    "SecurityOpt",
    "Sysctls",
    "CapDrop",
    "RestartPolicy",
    "OomKillDisable",
    "Memory",
    "MemorySwap",
    "PidsLimit",
    "LogConfig",
    "MaskedPaths",
    "ReadonlyPaths",
    "ExtraHosts",
    "GroupAdd",
    "CgroupParent",
    "Type",
    "Source",
    "source",
    "Target",
    "ReadOnly",
    "BindOptions",
    "VolumeOptions",
    "TmpfsOptions",
    "Image",
    "image",
    "User",
    "user",
    "Labels",
    "Entrypoint",
    "entrypoint",
    "HostConfig",
    "hostconfig",
    "Ho\u017ftConfig",
    "NetworkingConfig",
    "EndpointsConfig",
    "shelf-platform",
    "shelf-other",
    "Aliases",
    "bindery.project",
    "bindery.kind",
    "Name",
    "Volumes",
    "Cmd",
    "Shell",
    "NewField",
    "Tmpfs",
    "VolumeDriver",
    "Annotations",
    "StorageOpt",
    "Ulimits",
    "AutoRemove",
    "Healthcheck",
    "MacAddress",
]


@st.composite
def creations(draw: st.DrawFn) -> dict[str, Any]:
    """Give descriptions near the allowed one: a few fields anywhere changed, added or gone."""
    body = copy.deepcopy(creation())
    for _ in range(draw(st.integers(0, 4))):
        places: list[Any] = [body]
        for place in places:
            places += [
                inner
                for inner in (place.values() if isinstance(place, dict) else place)
                if isinstance(inner, dict | list)
            ]
        place = draw(st.sampled_from(places))
        value = copy.deepcopy(draw(st.sampled_from(EVIL)))
        if isinstance(place, list):
            place.append(value)
        elif (key := draw(st.sampled_from([*KEYS, *place]))) in place and draw(st.integers(0, 5)) == 0:
            del place[key]
        else:
            place[key] = value
    return body


def post(path: str, body: object = None) -> bytes:
    """Write a plain request with a JSON body."""
    payload = json.dumps(body).encode() if body is not None else b""
    head = f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


def get(path: str, method: str = "GET") -> bytes:
    """Write a plain request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: engine\r\nAccept: */*\r\n\r\n".encode()


PLAIN = [
    get("/_ping"),
    get("/v1.45/_ping", "HEAD"),
    get("/version"),
    get("/v1.45/containers/mine/json"),
    get("/containers/theirs/json"),
    get("/v1.45/containers/json?all=1&filters=%7B%22label%22%3A%5B%22bindery.project%3Dother%22%5D%7D"),
    get("/v1.45/containers/mine/logs?stdout=1&follow=0"),
    get("/v1.45/containers/mine/stats?stream=False"),
    post("/v1.45/containers/mine/start"),
    post("/v1.45/containers/theirs/kill?signal=SIGKILL"),
    post("/v1.45/containers/mine/stop?t=5"),
    post("/v1.45/containers/mine/wait"),
    get("/v1.45/containers/mine?force=1&v=1", "DELETE"),
    get("/containers/theirs", "DELETE"),
    get("/v1.45/events?since=0"),
    get("/v1.45/networks/net"),
    get(f"/v1.45/images/bindery/dagster@{DIGEST}/json"),
    post("/v1.45/networks/net/connect", {"Container": "mine", "EndpointConfig": {}}),
    post("/v1.45/networks/net/connect", {"Container": "theirs"}),
    post("/v1.45/containers/create?name=shelf-step-a", creation()),
    post("/v1.45/containers/mine/exec", {"Cmd": ["id"]}),
    post("/v1.45/images/create?fromImage=x"),
    post("/build"),
    post("/v1.45/volumes/create", {"Name": "x"}),
    get("/v1.45/info"),
    get("/v1.45/containers/mine/archive?path=/etc/shadow"),
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"%2e%2e/",
    b"%2F",
    b"%252e",
    b"../",
    b"/./",
    b"//",
    b"?",
    b"#",
    b";",
    b"&",
    b"=",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Upgrade: tcp\r\nConnection: Upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b" folded\r\n",
    b"theirs",
    b"mine",
    b"/exec",
    b"/attach",
    b"http://docker",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"GET /containers/theirs/json HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST ",
    b"DELETE ",
    b"PUT ",
    b"/v1.45",
    b"/v2.0",
    b"/v1.24",
    b"Host: x\r\n",
    b'{"a":1,"a":2}',
    b'"Privileged":true,',
    b"\xff",
    b"0\r\n\r\n",
    b"A" * 300,
]


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """Give bytes near plain requests: pieces put in, cut out, doubled; at times noise altogether."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300))
    raw = draw(st.sampled_from(PLAIN))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        until = min(len(raw), at + draw(st.integers(0, 12)))
        kind = draw(st.integers(0, 2))
        piece = draw(st.sampled_from(PIECES))
        raw = raw[:at] + (piece + raw[at:] if kind == 0 else raw[until:] if kind == 1 else piece + raw[until:])
    return raw
