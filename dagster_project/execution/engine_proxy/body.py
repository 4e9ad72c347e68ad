"""What a new container may be: every field that a creation may hold, with what it may say.

An allowlist, not a list of dangers: a field that isn't named here is refused, so that what a newer engine adds is
refused until somebody has thought about it. Names count by exact case (the engine's own reader ignores case, which is
why an unknown spelling never passes). What comes out is built from what was checked; the client's bytes go nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster_project.execution.engine_proxy.fields import (
    Check,
    absent,
    check_fields,
    deny,
    empty,
    flag,
    mapping,
    members,
    number,
    one_of,
    only,
    text,
    texts,
)
from dagster_project.execution.engine_proxy.messages import Json

PROJECT_LABEL = "bindery.project"
KIND_LABEL = "bindery.kind"
KINDS = ("run", "step")

_ROOTLESS = re.compile(r"(?!0+(?::|\Z))[0-9]{1,9}(?::(?!0+\Z)[0-9]{1,9})?")
_ABSOLUTE = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.@+-]*)+")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")
_TAG = re.compile(rf":[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}(?:{_DIGEST.pattern})?")
_HOST = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,62}")
_TMPFS = re.compile(
    r"(?:(?:size=[1-9][0-9]{0,11}[kmg]?|mode=[0-7]{3,4}|uid=[0-9]{1,9}|gid=[0-9]{1,9}|rw|ro|noexec|exec|nosuid|nodev)(?:,|\Z))*"
)
_SIGNAL = re.compile(r"(?:SIG)?[A-Z]{2,8}|[1-9][0-9]?")


@dataclass(frozen=True, slots=True)
class Ours:
    """What belongs to one compose project.

    Attributes:
        project: Value of the label that every container has.
        images: Repositories, any tag or digest of which may run; ``name:tag`` allows this tag alone.
        networks: Names of networks.
        volumes: Name -> whether it may be written to.
        allow_gpu: Whether containers may ask for GPUs.
    """

    project: str
    images: frozenset[str]
    networks: frozenset[str]
    volumes: Mapping[str, bool]
    allow_gpu: bool = False

    def image(self, name: object) -> bool:
        """Tell whether an image is ours, by its exact repository and a tag or digest: never an id, never untagged."""
        if not isinstance(name, str):
            return False
        for allowed in self.images:
            tagged = ":" in allowed.rpartition("/")[2]
            rest = name[len(allowed) :] if name.startswith(allowed) else "elsewhere"
            if _DIGEST.fullmatch(rest) or (rest == "" if tagged else _TAG.fullmatch(rest)):
                return True
        return False

    def container(self, labels: object) -> bool:
        """Tell by its labels whether a container is a run or step of ours; the platform's services are neither."""
        return (
            isinstance(labels, dict) and labels.get(PROJECT_LABEL) == self.project and labels.get(KIND_LABEL) in KINDS
        )

    def name(self, name: str) -> bool:
        """Tell whether a container may be called so: its name is a host name too, and a service's would be heard."""
        start = re.escape(self.project)
        return re.fullmatch(rf"{start}-(?:run|step)-[a-zA-Z0-9][a-zA-Z0-9_.-]{{0,127}}", name) is not None


def check_creation(body: Json, ours: Ours) -> Json:
    """Check the description of a new container.

    Returns:
        The same, field for field, for the engine, but what it would ignore.

    Raises:
        Refused: The first field that isn't allowed, with what may stand there.
    """
    if not ours.image(body.get("Image")):
        deny("Image", f"one of {', '.join(sorted(ours.images))}, with a tag or digest (--image allows more)")
    check_fields("", body, _CONTAINER)
    if not ours.container(body.get("Labels")):
        deny("Labels", f"with {PROJECT_LABEL}={ours.project} and {KIND_LABEL}={' or '.join(KINDS)}")
    host: Json = body.get("HostConfig") or {}
    check_fields("HostConfig.", host, _HOST_CONFIG)
    network = host.get("NetworkMode")
    if not isinstance(network, str) or network not in ours.networks:
        deny("HostConfig.NetworkMode", f"one of {', '.join(sorted(ours.networks))}")
    _required(host)
    _devices(host.get("DeviceRequests"), ours)
    targets = {_bind(bind, ours) for bind in host.get("Binds") or []}
    targets |= {_mount(mount, ours) for mount in host.get("Mounts") or []}
    if not set(body.get("Volumes") or {}) <= targets:
        deny("Volumes", "only paths that a named volume is mounted at: others would become volumes nobody removes")
    endpoints = _endpoints(body.get("NetworkingConfig"), ours)
    return {**body, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def check_connection(body: Json) -> str:
    """Check a container's joining of a network: just that, without names or addresses of its choice.

    Returns:
        The container's name or id.

    Raises:
        Refused: Something else is asked for.
    """
    check_fields(
        "", body, {"Container": text(re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,200}")), "EndpointConfig": _endpoint}
    )
    if not body.get("Container"):
        deny("Container", "the container's name or id")
    return str(body["Container"])


def _labels(where: str, value: Any) -> None:
    mapping(re.compile(r"[^\s=]{1,200}"), re.compile(r".*", re.DOTALL))(where, value)
    if any(name.startswith("com.docker.") for name in value or {}):
        deny(where, "anything but com.docker.*: that is how compose knows its services")


def _paths(where: str, value: Any) -> None:
    if value is not None and not (isinstance(value, dict) and all(not inner for inner in value.values())):
        deny(where, "an object of paths")


_endpoint: Check = members(
    {
        # An alias is a host name for everybody on the network: a step called `postgres` would be given logins.
        "Aliases": empty,
        "DNSNames": empty, "DriverOpts": empty, "EndpointID": empty, "Gateway": empty, "GlobalIPv6Address": empty,
        "GlobalIPv6PrefixLen": empty, "GwPriority": empty, "IPAMConfig": empty, "IPAddress": empty,
        "IPPrefixLen": empty, "IPv6Gateway": empty, "Links": empty, "MacAddress": empty, "NetworkID": empty,
    }
)  # fmt: skip

_CONTAINER: dict[str, Check] = {
    "Image": lambda where, value: None,  # checked first, by itself
    "Cmd": texts,
    "Env": texts,
    "Labels": _labels,
    # A name would be looked up in the image, where it may stand for 0. Absent: the image's own, which isn't root.
    "User": text(_ROOTLESS, "absent or uid:gid in digits, neither of them 0: containers don't run as root"),
    "WorkingDir": text(_ABSOLUTE),
    "Hostname": text(_HOST),
    "StopSignal": text(_SIGNAL),
    "StopTimeout": number(0, 3600),
    # An empty list is no default here: it takes the image's entrypoint away.
    "Entrypoint": absent,
    "Healthcheck": members({"Test": only("NONE")}),
    "Shell": absent,
    "OnBuild": empty,
    "Volumes": _paths,
    "HostConfig": lambda where, value: None,  # checked after, by itself
    "NetworkingConfig": lambda where, value: None,
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce", "Tty"), flag),
    **dict.fromkeys(("ArgsEscaped", "Domainname", "ExposedPorts", "MacAddress", "NetworkDisabled"), empty),
}

_HOST_CONFIG: dict[str, Check] = {
    "Binds": texts,
    "Mounts": lambda where, value: None if value is None or isinstance(value, list) else deny(where, "a list"),
    "Tmpfs": mapping(_ABSOLUTE, _TMPFS),
    "NetworkMode": lambda where, value: None,  # checked after, against our networks
    "CapDrop": only("ALL"),
    "SecurityOpt": only("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"),
    # Unlimited swap (-1) would make the memory limit none.
    **dict.fromkeys(("Memory", "MemorySwap", "MemoryReservation", "ShmSize", "NanoCpus"), number(0)),
    "CpuShares": number(0, 262144),
    "CpuPeriod": number(0, 1_000_000),
    "CpuQuota": number(0),
    "PidsLimit": number(1, 65536),
    # Only ever first to be ended, never last.
    "OomScoreAdj": number(0, 1000),
    "MemorySwappiness": number(-1, 100),
    "Init": flag,
    "ReadonlyRootfs": flag,
    "RestartPolicy": members({"Name": one_of("no"), "MaximumRetryCount": empty}),
    # Other drivers send what a step prints to an address of its choice.
    "LogConfig": members({
        "Type": one_of("json-file", "local"),
        "Config": mapping(re.compile(r"max-size|max-file|compress"), re.compile(r"[0-9]{1,6}[kmg]?|true|false")),
    }),
    "IpcMode": one_of("private", "none"),
    "CgroupnsMode": one_of("private"),
    "Runtime": one_of("runc"),
    "Isolation": one_of("default"),
    "VolumeDriver": one_of("local"),
    "DeviceRequests": lambda where, value: None,  # checked after, by itself
    "ConsoleSize": lambda where, value: empty(where, value and value != [0, 0]),
    # An empty list is no default for these two: it uncovers what the engine hides of /proc.
    "MaskedPaths": absent,
    "ReadonlyPaths": absent,
    # What would give more than a process needs, and has no use here. AutoRemove takes a crash's traces away.
    **dict.fromkeys(
        (
            "Annotations", "AutoRemove", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps",
            "BlkioDeviceWriteIOps", "BlkioWeight", "BlkioWeightDevice", "CapAdd", "Cgroup", "CgroupParent",
            "ContainerIDFile", "CpuCount", "CpuPercent", "CpuRealtimePeriod", "CpuRealtimeRuntime",
            "CpusetCpus", "CpusetMems", "DeviceCgroupRules", "Devices", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts",
            "GroupAdd", "IOMaximumBandwidth", "IOMaximumIOps", "KernelMemory", "KernelMemoryTCP", "Links",
            "OomKillDisable", "PidMode", "PortBindings", "Privileged", "PublishAllPorts", "StorageOpt", "Sysctls",
            "UTSMode", "Ulimits", "UsernsMode", "VolumesFrom",
        ),
        empty,
    ),
}  # fmt: skip


def _required(host: Json) -> None:
    if host.get("CapDrop") != ["ALL"]:
        deny("HostConfig.CapDrop", '["ALL"]; it has to be there')
    if not host.get("SecurityOpt"):
        deny("HostConfig.SecurityOpt", '["no-new-privileges:true"]; it has to be there')
    memory, swap = host.get("Memory") or 0, host.get("MemorySwap") or 0
    if not memory:
        deny("HostConfig.Memory", "a limit in bytes; it has to be there")
    if swap and swap < memory:
        deny("HostConfig.MemorySwap", "absent, or at least Memory")
    if not host.get("PidsLimit"):
        deny("HostConfig.PidsLimit", "a number of processes; it has to be there")


def _devices(requests: Any, ours: Ours) -> None:
    if not requests:
        return empty("HostConfig.DeviceRequests", requests)
    if not ours.allow_gpu:
        deny("HostConfig.DeviceRequests", "absent, unless the proxy was started with --allow-gpu=yes (BINDERY_GPU=yes)")
    if not isinstance(requests, list):
        deny("HostConfig.DeviceRequests", "a list")
    capabilities = only("gpu", "nvidia", "compute", "utility")
    for request in requests:
        check_fields(
            "HostConfig.DeviceRequests.",
            request,
            {
                "Driver": one_of("nvidia"),
                "Count": number(-1, 64),
                "DeviceIDs": texts,
                "Capabilities": lambda where, value: None,
                "Options": empty,
            },
        )
        wanted = request.get("Capabilities")
        if not isinstance(wanted, list) or len(wanted) != 1:
            deny("HostConfig.DeviceRequests.Capabilities", '[["gpu"]]')
        capabilities("HostConfig.DeviceRequests.Capabilities", wanted[0])
    return None


def _bind(bind: str, ours: Ours) -> str:
    volume, path, mode = ([*bind.split(":"), "rw"])[:3] if bind.count(":") in (1, 2) else ("", "", "")
    if mode not in ("rw", "ro"):
        deny("HostConfig.Binds", "volume:/path or volume:/path:ro; folders of the host are not mounted")
    _volume("HostConfig.Binds", volume, mode == "ro", ours)
    if _ABSOLUTE.fullmatch(path) is None:
        deny("HostConfig.Binds", "a volume at a plain absolute path")
    return path


def _mount(mount: Any, ours: Ours) -> str:
    where = "HostConfig.Mounts"
    check_fields(
        f"{where}.",
        mount,
        {
            "Type": one_of("volume", "tmpfs"),
            "Source": lambda where, value: None,  # checked below
            "Target": text(_ABSOLUTE),
            "ReadOnly": flag,
            "Consistency": one_of("default"),
            # Its DriverConfig makes a volume out of any folder of the host.
            "VolumeOptions": members({"NoCopy": flag, "Labels": empty, "DriverConfig": empty, "Subpath": empty}),
            "BindOptions": empty,
            "ClusterOptions": empty,
            "TmpfsOptions": members({"SizeBytes": number(0), "Mode": number(0, 0o1777), "Options": empty}),
        },
    )
    if not mount.get("Target"):
        deny(f"{where}.Target", "an absolute path")
    if mount.get("Type") == "tmpfs":
        empty(f"{where}.Source", mount.get("Source"))
    elif mount.get("Type") == "volume":
        _volume(f"{where}.Source", mount.get("Source"), mount.get("ReadOnly") is True, ours)
    else:
        deny(f"{where}.Type", "volume or tmpfs; folders of the host are not mounted")
    return str(mount["Target"])


def _volume(where: str, volume: object, read_only: bool, ours: Ours) -> None:
    if not isinstance(volume, str) or volume not in ours.volumes:
        deny(where, f"one of the volumes {', '.join(sorted(ours.volumes))}")
    if not (ours.volumes[volume] or read_only):
        deny(where, f"{volume} read-only alone")


def _endpoints(config: Any, ours: Ours) -> Json:
    config = config or {}
    # docker-py writes the network's name here too, a level too high and with nothing in it; engines ignore that.
    mislaid = dict.fromkeys(ours.networks, absent)
    check_fields("NetworkingConfig.", config, {**mislaid, "EndpointsConfig": lambda where, value: None})
    endpoints: Json = config.get("EndpointsConfig") or {}
    check_fields("NetworkingConfig.EndpointsConfig.", endpoints, dict.fromkeys(ours.networks, _endpoint))
    return endpoints
