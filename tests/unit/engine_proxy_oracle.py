"""What may reach the engine, written a second time and another way.

The judge reads bytes as the engine does (JSON keys by any case, the last of two wins),
and shares no code with the proxy.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT = "shelf"
NETWORKS, VOLUMES = {"shelf-platform", "shelf-engine"}, {"shelf-landing": True, "shelf-secrets": False}
IMAGES = {"bindery/dagster", "registry.test:5000/bindery/dbt", "python:3.13-slim"}
MINE, THEIRS, NET = "a" * 64, "b" * 64, "c" * 64
DIGEST = "sha256:" + "0" * 64


def creation() -> dict[str, Any]:
    """Give a description with much of what is allowed."""
    return {
        "Image": "bindery/dagster:0.1",
        "Cmd": ["python", "-c", "1"],
        "Env": ["A=b"],
        "User": "10001:10001",
        "Labels": {"bindery.project": PROJECT, "bindery.kind": "step", "bindery.run": "1"},
        "Entrypoint": None,
        "Volumes": {"/data/landing": {}},
        "HostConfig": {
            "NetworkMode": "shelf-platform",
            "Binds": ["shelf-landing:/data/landing:rw"],
            "Mounts": [
                {"Type": "volume", "Source": "shelf-secrets", "Target": "/run/secrets", "ReadOnly": True},
                {"Type": "tmpfs", "Source": None, "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024}},
            ],
            "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=1g,mode=1777"},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "Memory": 2**29,
            "MemorySwap": 2**29,
            "NanoCpus": 10**9,
            "PidsLimit": 512,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "Privileged": False,
            "CapAdd": None,
            "Devices": [],
        },
        "NetworkingConfig": {"EndpointsConfig": {"shelf-platform": {}}, "shelf-platform": None},
    }


def as_engine_reads(value: Any) -> Any:
    """Fold the case of every key, as Go's reader of JSON does."""
    if isinstance(value, dict):
        return {key.casefold(): as_engine_reads(inner) for key, inner in value.items()}
    return [as_engine_reads(inner) for inner in value] if isinstance(value, list) else value


def harm(body: dict[str, Any]) -> list[str]:
    """List what is wrong with a container that was let through; empty is good."""
    told = as_engine_reads(body)
    host = told.get("hostconfig") or {}
    found = []
    image = str(told.get("image"))
    repository = re.sub(r"@sha256:[0-9a-f]{64}$", "", image)
    if repository == image or ":" in repository.rpartition("/")[2]:
        repository = image if repository == "python:3.13-slim" else repository.rpartition(":")[0]
    if repository not in IMAGES and image.partition("@")[0] != "python:3.13-slim":
        found.append(f"image {image}")
    labels = told.get("labels") or {}
    if labels.get("bindery.project") != PROJECT or labels.get("bindery.kind") not in ("run", "step"):
        found.append("labels")
    if host.get("networkmode") not in NETWORKS:
        found.append("network")
    endpoints = (told.get("networkingconfig") or {}).get("endpointsconfig") or {}
    found += [
        f"endpoint {name}" for name, inner in endpoints.items() if name not in NETWORKS or any((inner or {}).values())
    ]
    dangerous = [
        "privileged",
        "capadd",
        "devices",
        "devicecgrouprules",
        "devicerequests",
        "pidmode",
        "utsmode",
        "usernsmode",
        "cgroupparent",
        "cgroup",
        "sysctls",
        "volumesfrom",
        "links",
        "portbindings",
        "publishallports",
        "oomkilldisable",
        "groupadd",
        "extrahosts",
        "dns",
        "storageopt",
        "ulimits",
        "autoremove",
        "annotations",
        "cpusetcpus",
        "isolation",
        "containeridfile",
    ]
    found += [name for name in dangerous if host.get(name)]
    found += [name for name in ("maskedpaths", "readonlypaths") if host.get(name) is not None]
    found += [name for name in ("entrypoint", "shell") if told.get(name) is not None]
    if host.get("ipcmode") not in (None, "", "private", "none") or host.get("cgroupnsmode") not in (
        None,
        "",
        "private",
    ):
        found.append("namespaces")
    if host.get("runtime") not in (None, "", "runc") or host.get("volumedriver") not in (None, "", "local"):
        found.append("runtime or driver")
    if "ALL" not in (host.get("capdrop") or []) or not host.get("securityopt"):
        found.append("capabilities")
    if any(not option.startswith("no-new-privileges") or option.endswith("false") for option in host["securityopt"]):
        found.append("security options")
    uid, _, gid = str(told.get("user") or "1").partition(":")
    if not uid.isascii() or not uid.isdigit() or int(uid) == 0 or (gid and (not gid.isdigit() or int(gid) == 0)):
        found.append(f"user {told.get('user')}")
    if (host.get("memory") or 0) <= 0 or (host.get("pidslimit") or 0) <= 0 or (host.get("memoryswap") or 0) < 0:
        found.append("limits")
    if (host.get("restartpolicy") or {}).get("name") not in (None, "", "no"):
        found.append("restart")
    if (host.get("logconfig") or {}).get("type") not in (None, "", "json-file", "local"):
        found.append("log driver")
    return found + _mounts(host)


def _mounts(host: dict[str, Any]) -> list[str]:
    found = []
    for bind in host.get("binds") or []:
        volume, _, rest = bind.partition(":")
        if volume not in VOLUMES or (not VOLUMES[volume] and not rest.endswith(":ro")) or ".." in rest:
            found.append(f"bind {bind}")
    for mount in host.get("mounts") or []:
        volume = mount.get("source")
        if mount.get("type") == "volume":
            if volume not in VOLUMES or (not VOLUMES[volume] and mount.get("readonly") is not True):
                found.append(f"mount {mount}")
        elif mount.get("type") != "tmpfs" or volume:
            found.append(f"mount {mount}")
        if mount.get("bindoptions") or (mount.get("volumeoptions") or {}).get("driverconfig"):
            found.append("mount options")
    return found


INSPECTIONS = re.compile(r"GET /(?:containers/[\w.-]+/json|networks/[\w.-]+) HTTP/1\.0")
ON_CONTAINER = rf"/containers/{MINE}"
BOTH = [
    ("GET|HEAD", "/_ping"),
    ("GET", "/version"),
    ("GET", "/containers/json"),
    ("GET", rf"{ON_CONTAINER}/(json|logs|stats)"),
    ("POST", rf"{ON_CONTAINER}/(stop|kill|wait)"),
    ("GET", rf"/networks/{NET}"),
    ("GET", r"/images/.+/json"),
]
LAUNCH = [("POST", "/containers/create"), ("POST", rf"{ON_CONTAINER}/start"), ("POST", rf"/networks/{NET}/connect")]
SUPERVISE = [("DELETE", ON_CONTAINER), ("GET", "/events")]


def judge(message: bytes, port: str) -> list[str]:
    """List what is wrong with bytes that reached the engine; empty is good."""
    head, mark, body = message.partition(b"\r\n\r\n")
    line, *headers = head.decode("ascii").split("\r\n")
    if not mark:
        return ["no end of the head"]
    if INSPECTIONS.fullmatch(line):
        return [] if headers == ["Host: docker"] and not body else [f"inspection with {headers}"]
    method, target, version = line.split(" ")
    parts = urlsplit(target)
    path = re.sub(r"^/v1\.\d+(?=/)", "", parts.path)
    allowed = BOTH + (LAUNCH if port == "launch" else SUPERVISE)
    found = [] if version == "HTTP/1.1" and headers[:2] == ["Host: docker", "Connection: close"] else ["head"]
    if not any(re.fullmatch(methods, method) and re.fullmatch(pattern, path) for methods, pattern in allowed):
        found.append(f"{method} {path}")
    lengths = [header.partition(": ")[2] for header in headers if header.lower().startswith("content-length")]
    if (
        len(body) != int(lengths[0] if lengths else 0)
        or len(lengths) > 1
        or any("transfer" in h.lower() for h in headers)
    ):
        found.append("framing")
    query = parse_qs(parts.query, keep_blank_values=True)
    if path in ("/containers/json", "/events"):
        labels = json.loads(query["filters"][0])["label"]
        found += [] if f"bindery.project={PROJECT}" in labels and "bindery.kind" in labels else ["filters"]
    if path.endswith("/stats") and query.get("stream") != ["0"]:
        found.append("stream")
    if path.startswith("/images/") and not re.fullmatch(
        r"/images/((bindery/dagster|registry\.test:5000/bindery/dbt)[:@][\w.:@-]+|python:3\.13-slim(@sha256:[0-9a-f]{64})?)/json",
        path,
    ):
        found.append("image")
    if path == "/containers/create":
        found += harm(json.loads(body))
        name = query.get("name", [f"{PROJECT}-run-x"])[0]
        found += [] if name.startswith((f"{PROJECT}-run-", f"{PROJECT}-step-")) else ["name"]
    elif path.endswith("/connect"):
        told = json.loads(body)
        found += (
            [] if told["Container"] == MINE and not any((told.get("EndpointConfig") or {}).values()) else ["connect"]
        )
    elif body:
        found.append("a body")
    return found
