"""Which requests there are: one table, by port. What isn't in it is refused.

A request becomes a plan: what the engine is asked instead, built from checked parts. Where a plan names a container or
network, the server first asks the engine whose it is, and then goes on with the id it was told: a name can come to mean
another container between two requests, an id can't, and a container's labels never change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from urllib.parse import quote, urlencode

from dagster_project.execution.engine_proxy.body import (
    KIND_LABEL,
    PROJECT_LABEL,
    Ours,
    check_connection,
    check_creation,
)
from dagster_project.execution.engine_proxy.messages import Json, Refused, Request, parse_json

OLDEST = 41
"""Before API 1.41 (Docker 20.10) a container had the host's cgroup namespace where nothing was said about it."""


class Port(Enum):
    """Whom a port serves."""

    LAUNCH = "launch"
    SUPERVISE = "supervise"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the engine is asked.

    Attributes:
        method: HTTP method.
        path: With ``{container}`` and ``{network}`` where the ids come in.
        query: Its parameters.
        body: JSON to send; its ``Container`` becomes the id.
        container: Name or id of a container that has to be ours.
        network: Name or id of a network that has to be ours.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    container: str | None = None
    network: str | None = None

    def message(self, container: str = "", network: str = "") -> bytes:
        """Write the request for the engine, with the ids in place of names."""
        path = self.path.replace("{container}", container).replace("{network}", network)
        target = path + (f"?{urlencode(self.query, quote_via=quote)}" if self.query else "")
        head = f"{self.method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
        if self.body is None:
            # Nothing to send: an empty body needs its length said on POST.
            return (head + ("Content-Length: 0\r\n\r\n" if self.method == "POST" else "\r\n")).encode("ascii")
        told = {**self.body, "Container": container} if self.container else self.body
        payload = json.dumps(told, allow_nan=False).encode("ascii")
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        return head.encode("ascii") + payload


Parameter = Callable[[str, str], str]


def _flag(name: str, value: str) -> str:
    # As the engine reads it: anything but these is true.
    return "0" if value.strip().lower() in ("", "0", "no", "false", "none") else "1"


def _off(name: str, value: str) -> str:
    if _flag(name, value) == "1":
        raise Refused(f"{name} may only be false here")
    return "0"


def _like(pattern: str) -> Parameter:
    compiled = re.compile(pattern)

    def check(name: str, value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise Refused(f"the parameter {name} has to be like {pattern}")
        return value

    return check


_SECONDS = _like(r"-?[0-9]{1,9}")
_TIME = _like(
    r"[0-9]{1,12}(?:\.[0-9]{1,9})?|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,18}(?:Z|[+-][0-9:]{5})|[0-9hms]{1,12}|"
)
_SIGNAL = _like(r"(?:SIG)?[A-Z0-9+-]{1,12}|")
_COUNT = _like(r"-?[0-9]{1,9}")
_REF = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}"
_FILTERS = frozenset({"label", "status", "name", "id", "exited", "health", "event", "type", "container"})


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request.

    Attributes:
        method: HTTP method.
        path: Pattern; ``container`` and ``network`` are references to check.
        parameters: Query parameter -> how its value is read.
        ports: Who may ask.
        any_version: Whether it may be asked in any version, because it finds out the version.
    """

    method: str
    path: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    ports: tuple[Port, ...] = (Port.LAUNCH, Port.SUPERVISE)
    any_version: bool = False


_C = rf"/containers/(?P<container>{_REF})"
_N = rf"/networks/(?P<network>{_REF})"
_LAUNCH, _SUPERVISE = (Port.LAUNCH,), (Port.SUPERVISE,)
_STOP = {"t": _SECONDS, "signal": _SIGNAL}
_LOGS = dict.fromkeys(("follow", "stdout", "stderr", "timestamps", "details"), _flag)
_LIST = {"all": _flag, "size": _flag, "trunc_cmd": _flag, "limit": _COUNT, "filters": lambda name, value: value}
CREATE, CONNECT, LIST, EVENTS = "/containers/create", rf"{_N}/connect", "/containers/json", "/events"
STATS = rf"{_C}/stats"
IMAGE = r"/images/(?P<image>[^%]+)/json"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/_ping", any_version=True),
    Route("HEAD", "/_ping", any_version=True),
    Route("GET", "/version", any_version=True),
    Route("GET", LIST, _LIST),
    Route("GET", rf"{_C}/json", {"size": _flag}),
    Route("GET", rf"{_C}/logs", {**_LOGS, "since": _TIME, "until": _TIME, "tail": _like(r"all|[0-9]{1,9}")}),
    # A stream of figures would hold a connection for as long as the container lives.
    Route("GET", STATS, {"stream": _off, "one-shot": _flag}),
    Route("POST", rf"{_C}/stop", _STOP),
    Route("POST", rf"{_C}/kill", {"signal": _SIGNAL}),
    Route("POST", rf"{_C}/wait", {"condition": _like(r"not-running|next-exit|removed|")}),
    Route("GET", _N),
    Route("GET", IMAGE),
    Route("POST", CREATE, {"name": lambda name, value: value}, _LAUNCH),
    # No checkpoint: that would start from a state somebody else wrote.
    Route("POST", rf"{_C}/start", {}, _LAUNCH),
    Route("POST", CONNECT, {}, _LAUNCH),
    Route("DELETE", _C, {"force": _flag, "v": _flag, "link": _off}, _SUPERVISE),
    Route("GET", EVENTS, {"since": _TIME, "until": _TIME, "filters": lambda name, value: value}, _SUPERVISE),
)


def decide(port: Port, request: Request, ours: Ours) -> Plan:
    """Find what the engine may be asked for a request.

    Raises:
        Refused: Nothing.
    """
    prefix, minor, path = _version(request.path)
    for route in ROUTES:
        found = re.fullmatch(route.path, path) if route.method == request.method else None
        if found is None:
            continue
        if port not in route.ports:
            break
        if minor < OLDEST and not route.any_version:
            raise Refused(f"API versions before 1.{OLDEST} are not for this proxy: let the client negotiate")
        return _plan(route, request, prefix, path, found.groupdict(), ours)
    raise Refused(f"{request.method} of this path is not in the {port.value} port's rules: {_hint(path)}")


def _version(path: str) -> tuple[str, int, str]:
    found = re.fullmatch(r"(/v1\.([0-9]{1,3}))(/.*)", path)
    return (found[1], int(found[2]), found[3]) if found else ("", OLDEST, path)


def _hint(path: str) -> str:
    if path.startswith("/images/") or path == "/build":
        return "images are pulled and built on the host (`docker compose pull`, `docker compose build`)"
    if "/exec" in path or path.endswith("/attach"):
        return "look at a container from the host (`docker exec`)"
    return "do it on the host with `docker`"


def _plan(route: Route, request: Request, prefix: str, path: str, names: dict[str, str], ours: Ours) -> Plan:
    for name in request.query:
        if name not in route.parameters:
            raise Refused(f"the parameter {name[:40]!a} is not let through here: leave it out")
    query = {name: route.parameters[name](name, value) for name, value in request.query.items()}
    container, network, image = names.get("container"), names.get("network"), names.get("image")
    if image is not None and not ours.image(image):
        raise Refused(f"images are {', '.join(sorted(ours.images))}, with a tag or digest")
    # Ids come into the path later. What an image is called has one meaning: its whole name was compared.
    if container is not None:
        path = path.replace(f"/containers/{container}", "/containers/{container}", 1)
    if network is not None:
        path = path.replace(f"/networks/{network}", "/networks/{network}", 1)
    body: Json | None = None
    if route.path == CREATE:
        body = check_creation(parse_json(request.body), ours)
        if "name" in query and not ours.name(query["name"]):
            raise Refused(f"a container is called {ours.project}-run-... or {ours.project}-step-...")
    elif route.path == CONNECT:
        body = parse_json(request.body)
        container = check_connection(body)
    elif request.body:
        raise Refused("this request has no body")
    elif route.path in (LIST, EVENTS):
        query["filters"] = _filters(query.get("filters", ""), ours, events=route.path == EVENTS)
    elif route.path == STATS:
        query["stream"] = "0"
    return Plan(request.method, prefix + path, query, body, container, network)


def _filters(text: str, ours: Ours, *, events: bool) -> str:
    """Write a list's filters anew, so that only runs and steps of ours are in it, whatever else was asked for."""
    asked: dict[str, list[str]] = {}
    for name, values in (parse_json(text) if text else {}).items():
        if name not in _FILTERS:
            raise Refused(f"the filter {name[:40]!a} is not let through: leave it out")
        # Two forms are in use: {"label": ["a=b"]} and {"label": {"a=b": true}}.
        if isinstance(values, dict) and all(chosen is True for chosen in values.values()):
            values = list(values)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise Refused("filters are lists of texts", HTTPStatus.BAD_REQUEST)
        asked[name] = values
    # Of labels, the engine asks for all.
    asked["label"] = [*asked.get("label", []), f"{PROJECT_LABEL}={ours.project}", KIND_LABEL]
    if events:
        asked["type"] = ["container"]
    return json.dumps(asked)
