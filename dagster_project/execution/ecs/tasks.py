"""What the task of a run or a step looks like: family, size, overrides, network, capacity, tags.

Descriptions only; ``cluster`` hands them to ECS. One place for both kinds, so that a step has nothing that its run
doesn't have. A description is made anew for each task: nothing of one is seen in the next.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.execution.compute import MIB, Compute
from dagster_project.execution.ecs.sizes import Size
from dagster_project.execution.labels import COMMIT, COMPUTE, KIND, PROJECT, Kind

if TYPE_CHECKING:
    from dagster_project.settings import Settings

CONTAINER = "main"
"""Name of the container in every family."""
SPOT, ON_DEMAND = "FARGATE_SPOT", "FARGATE"
RUN_COMPUTE = Compute("run", cpu=0.5, memory=1024 * MIB)
"""A run's own process only starts steps and reads the event log."""
MOST_OVERRIDES = 8192
"""Characters of overrides that ECS takes, JSON included."""
_REFUSED_IN_TAGS = re.compile(r"[^\w .:/=+@-]", re.ASCII)
_MOST_TAG = 256


class TaskError(Exception):
    """A task can't be described; the message says what to set."""


@dataclass(frozen=True, slots=True)
class Place:
    """One installation on one cluster."""

    project: str
    cluster: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    public_ip: bool
    capacity: str
    gpu_provider: str | None
    shell: bool
    """Whether `aws ecs execute-command` may open one in tasks."""
    dagster_image: str | None
    dbt_image: str | None
    commit: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """Read it from the settings.

        Raises:
            TaskError: Something isn't set that Terraform sets.
        """
        missing = [name for name in ("ecs_subnets", "ecs_security_groups") if not getattr(settings, name)]
        if missing:
            names = " and ".join(f"BINDERY_{name.upper()}" for name in missing)
            raise TaskError(f"{names} not set: tasks need a network. deploy/terraform puts both into task definitions")
        return cls(
            settings.project,
            settings.ecs_cluster or settings.project,
            listed(settings.ecs_subnets),
            listed(settings.ecs_security_groups),
            settings.ecs_public_ip,
            settings.ecs_capacity,
            settings.ecs_gpu_capacity_provider,
            settings.ecs_exec,
            settings.dagster_image,
            settings.dbt_image,
            settings.code_version,
        )

    @property
    def run_family(self) -> str:
        """Name the task definition of run workers."""
        return f"{self.project}-run"

    def step_family(self, compute: Compute, size: Size) -> str:
        """Name the task definition of a step; one with an image of its own is derived from it (``derived_family``)."""
        if not size.on_fargate:
            return f"{self.project}-step-gpu"
        return f"{self.project}-step-dbt" if self._is_dbt(compute) else f"{self.project}-step"

    def own_image(self, compute: Compute) -> str | None:
        """Give the image that a step asks for by its full name, where no family of the project has it."""
        if compute.image is None or compute.image == self.dagster_image or self._is_dbt(compute):
            return None
        return compute.image

    def _is_dbt(self, compute: Compute) -> bool:
        return compute.image == "dbt" or (compute.image is not None and compute.image == self.dbt_image)

    def strategy(self, size: Size, *, on_demand: bool = False) -> list[dict[str, Any]]:
        """Give the capacity provider strategy: one provider, because a second one is our decision, which is logged."""
        provider = self.gpu_provider if not size.on_fargate else ON_DEMAND if on_demand else self.capacity
        return [{"capacityProvider": provider, "weight": 1}]

    def network(self, size: Size | None = None) -> dict[str, Any]:
        """Give the network configuration; EC2 instances have the addresses, not their tasks."""
        public = self.public_ip and (size is None or size.on_fargate)
        return {
            "awsvpcConfiguration": {
                "subnets": list(self.subnets),
                "securityGroups": list(self.security_groups),
                "assignPublicIp": "ENABLED" if public else "DISABLED",
            }
        }


def listed(text: str | None) -> tuple[str, ...]:
    """Read a list separated by commas."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def step_request(
    place: Place,
    family: str,
    size: Size,
    command: Sequence[str],
    variables: Mapping[str, str],
    tags: Mapping[str, str],
    *,
    run_id: str,
    on_demand: bool = False,
) -> dict[str, Any]:
    """Describe the task of a step, as arguments of boto3's ``run_task``.

    Raises:
        TaskError: Its arguments are longer than ECS takes.
    """
    container: dict[str, Any] = {
        "name": CONTAINER,
        "command": list(command),
        "environment": [{"name": name, "value": value} for name, value in variables.items()],
    }
    if size.gpu:
        container["resourceRequirements"] = [{"type": "GPU", "value": str(size.gpu)}]
    overrides: dict[str, Any] = {
        "cpu": str(size.cpu),
        "memory": str(size.memory),
        "containerOverrides": [container],
    }
    if (length := len(json.dumps(overrides, separators=(",", ":")))) > MOST_OVERRIDES:
        raise TaskError(
            f"the arguments of the step are {length} characters long, and ECS takes {MOST_OVERRIDES}. What to change: "
            "split the job, the part that every step is told of all others has grown too large"
        )
    return {
        "cluster": place.cluster,
        "taskDefinition": family,
        "count": 1,
        "capacityProviderStrategy": place.strategy(size, on_demand=on_demand),
        "networkConfiguration": place.network(size),
        "enableExecuteCommand": place.shell,
        "enableECSManagedTags": True,
        "startedBy": run_id,
        "overrides": overrides,
        "tags": tag_list(tags),
    }


def task_tags(place: Place, kind: Kind, compute: Compute, more: Mapping[str, str]) -> dict[str, str]:
    """Give the tags that every task of ours has: bills and the supervisor go by them."""
    return {PROJECT: place.project, KIND: kind, COMMIT: place.commit or "", COMPUTE: compute.name, **more}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Write tags as ECS wants them."""
    return [{"key": key, "value": tag_value(value)} for key, value in tags.items() if value]


def tag_value(text: str) -> str:
    """Write a text with the characters that tags may have; what was changed ends with a digest of the whole."""
    clean = _REFUSED_IN_TAGS.sub("-", text)
    if clean == text and len(text) <= _MOST_TAG:
        return text
    return f"{clean[: _MOST_TAG - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def derived_family(base: str, image: str) -> str:
    """Name the task definition that is another one with another image."""
    return f"{base}-{hashlib.sha256(image.encode()).hexdigest()[:10]}"


def derived_definition(base: Mapping[str, Any], image: str, members: Sequence[str]) -> dict[str, Any]:
    """Give a task definition with another image, as arguments of ``register_task_definition``.

    Args:
        base: What ``describe_task_definition`` says of the one to derive from.
        image: The image of its container ``main``.
        members: Arguments that registering takes; the rest of a description is ECS's own.
    """
    family = derived_family(str(base["family"]), image)
    made = {name: value for name, value in base.items() if name in members}
    made["family"] = family
    made["containerDefinitions"] = [_with_image(each, image, family) for each in base["containerDefinitions"]]
    return made


def _with_image(container: Mapping[str, Any], image: str, family: str) -> dict[str, Any]:
    if container["name"] != CONTAINER:
        return dict(container)
    made = {**container, "image": image}
    if logs := container.get("logConfiguration"):
        made["logConfiguration"] = {**logs, "options": {**logs.get("options", {}), "awslogs-stream-prefix": family}}
    return made
