"""What the containers of runs and steps look like: image, limits, networks, volumes, environment, labels.

One place for both, so that a step has nothing that its run doesn't have. The filtering proxy in front of the engine
refuses what isn't written here. Names follow the compose project, so that two installations on one host never meet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dagster_project.execution.compute import Compute
from dagster_project.execution.labels import COMMIT, COMPUTE, KIND, PROJECT, Kind

if TYPE_CHECKING:
    from docker import DockerClient

    from dagster_project.settings import Settings

USER = "10001:10001"
PIDS = 512
SHARED_MEMORY = "64m"
LOG_SIZE, LOG_FILES = "10m", "3"
RUN_COMPUTE = Compute("run", cpu=1, memory=1024 * 2**20)
"""A run's own process only starts steps and reads the event log."""

FORWARDED = ("BINDERY_", "DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY", "DAGSTER_CURRENT_IMAGE", "PGPASSFILE", "SOURCES")
"""Which variables of a service its runs and steps get: settings, no secrets; those are files."""
_SECRET = re.compile(r"PASSWORD|PASSPHRASE|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|CREDENTIAL")
SECRET_VOLUME, SECRET_PATH = "secrets", "/run/bindery/secrets"  # pragma: allowlist secret
VOLUMES: Mapping[str, tuple[str, bool]] = {
    "landing": ("/data/landing", False),
    "logs": ("/data/logs", False),
    "drop": ("/data/drop", True),
    "sample-drops": ("/data/drop/sample", True),
    SECRET_VOLUME: (SECRET_PATH, True),
}
"""Volume (without the project's name) -> where it is, and whether it is read-only."""


class ContainerError(Exception):
    """A container can't be described; the message says what to set."""


@dataclass(frozen=True, slots=True)
class Place:
    """One compose project on one engine."""

    project: str
    dagster_image: str
    dbt_image: str
    commit: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """Read it from the settings.

        Raises:
            ContainerError: Something isn't set that compose sets.
        """
        if settings.dagster_image is None or settings.dbt_image is None:
            raise ContainerError(
                "BINDERY_DAGSTER_IMAGE and BINDERY_DBT_IMAGE name the images of steps; docker-compose.yml sets both"
            )
        return cls(settings.project, settings.dagster_image, settings.dbt_image, settings.code_version)

    def named(self, part: str) -> str:
        """Give the full name of a network or volume."""
        return f"{self.project}-{part}"

    def image(self, compute: Compute) -> str:
        """Give the image that a step runs in."""
        if compute.image is None:
            return self.dagster_image
        return self.dbt_image if compute.image == "dbt" else compute.image

    def networks(self, kind: Kind) -> list[str]:
        """Give the networks; only runs may talk to the engine."""
        names = ["platform", "engine"] if kind == "run" else ["platform"]
        return [self.named(name) for name in names]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Pick the variables that containers inherit.

    Raises:
        ContainerError: A URL holds a password, which everybody could read in `docker inspect`.
    """
    chosen = {name: value for name, value in variables.items() if name.startswith(FORWARDED) and not _is_secret(name)}
    for name, value in chosen.items():
        if "://" in value and urlsplit(value).password:
            raise ContainerError(
                f"{name} holds a password, which `docker inspect` would show of every step. Leave it out: the roles' "
                f"passwords are files in the secrets volume; an administrator's URL belongs into a file that "
                f"{name}_FILE names"
            )
    return chosen


def _is_secret(name: str) -> bool:
    # A path to a secret is none; one that somebody put into a variable stays there: `bindery secrets set` makes a file.
    return _SECRET.search(name) is not None and not name.endswith(("_FILE", "_DIR"))


def options(
    place: Place,
    kind: Kind,
    compute: Compute,
    labels: Mapping[str, str],
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """Describe a container, as arguments of docker-py's ``containers.create`` but image, name and command.

    Args:
        place: Whose container it is.
        kind: Of a run or of a step.
        compute: Its limits; more cores than the host has are cut to what it has, because the engine refuses more.
        labels: What is known about it besides project and kind.
        variables: Its environment.
    """
    from docker.types import DeviceRequest, LogConfig, Mount

    mounts = [
        Mount(path, place.named(name), type="volume", read_only=read_only)
        for name, (path, read_only) in VOLUMES.items()
    ]
    described: dict[str, Any] = {
        "detach": True,
        "network": place.networks(kind)[0],
        "environment": dict(variables),
        "labels": {PROJECT: place.project, KIND: kind, COMMIT: place.commit or "", COMPUTE: compute.name, **labels},
        "user": USER,
        "init": True,
        "read_only": True,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,size=1g,mode=1777", "/home/bindery": "rw,size=64m,uid=10001,mode=0700"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": PIDS,
        "shm_size": SHARED_MEMORY,
        "nano_cpus": int(min(compute.cpu, os.cpu_count() or 1) * 1e9),
        "mem_limit": compute.memory,
        # No swap beside it: a step that swaps takes the host down with it, one that is ended gets diagnosed.
        "memswap_limit": compute.memory,
        "mounts": mounts,
        "log_config": LogConfig(type="json-file", config={"max-size": LOG_SIZE, "max-file": LOG_FILES}),
    }
    if compute.gpu:
        described["device_requests"] = [DeviceRequest(count=compute.gpu, capabilities=[["gpu"]])]
    return described


def connect_others(client: DockerClient, container: Any, place: Place, kind: Kind) -> None:
    """Join the networks after the first: engines before API 1.44 take one at creation."""
    for name in place.networks(kind)[1:]:
        client.api.connect_container_to_network(container.id, name)
