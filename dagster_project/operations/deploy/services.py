"""Services: brought to a release one after the other, waited for, woken, and looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dagster_project.operations.deploy.errors import DeployError

PATIENCE_SECONDS = 1800.0
LOOK_SECONDS = 5.0
AWAKE_UNTIL = "bindery.awake-until"
"""Tag of a service that may sleep: seconds since 1970 until which it stays awake."""
Say = Callable[[str], None]


def roll(ecs: Any, cluster: str, wanted: Mapping[str, Mapping[str, Any]], say: Say) -> None:
    """Bring services to their newest definitions: the code server first, which the others ask.

    Raises:
        DeployError: One doesn't become healthy: ECS has taken it back, and those after it weren't touched.
    """
    for service in sorted(wanted, key=lambda name: (not name.endswith("-code"), name)):
        definition = str(wanted[service]["task_definition"])
        found = look(ecs, cluster, service)
        if found["taskDefinition"] != definition or not found["desiredCount"]:
            tasks = max(int(found["desiredCount"]), int(wanted[service]["tasks"]))
            ecs.update_service(cluster=cluster, service=service, taskDefinition=definition, desiredCount=tasks)
        wait(ecs, cluster, service, definition, say)


def look(ecs: Any, cluster: str, service: str) -> Mapping[str, Any]:
    """Describe one service.

    Raises:
        DeployError: There is none.
    """
    found = ecs.describe_services(cluster=cluster, services=[service], include=["TAGS"])["services"]
    if not found or found[0]["status"] == "INACTIVE":
        raise DeployError(f"there is no service {service} in the cluster {cluster}: `bindery deploy aws` makes it")
    described: Mapping[str, Any] = found[0]
    return described


def wait(ecs: Any, cluster: str, service: str, definition: str, say: Say) -> None:
    """Wait until a service runs a definition and is healthy.

    Raises:
        DeployError: ECS gave it up and went back, or it takes too long; holds what ECS said.
    """
    deadline, last = time.monotonic() + PATIENCE_SECONDS, ""
    while time.monotonic() < deadline:
        found = look(ecs, cluster, service)
        ours = next((each for each in found["deployments"] if each["taskDefinition"] == definition), None)
        state = ours.get("rolloutState", "IN_PROGRESS") if ours else "FAILED"
        if ours and state == "COMPLETED" and len(found["deployments"]) == 1:
            say(f"{service}: {found['runningCount']} running, healthy")
            return
        if state == "FAILED":
            why = (ours or {}).get("rolloutStateReason") or "its tasks didn't become healthy"
            said = "\n".join(f"    {event['message']}" for event in found.get("events", [])[:5])
            raise DeployError(
                f"{service} didn't come up, and ECS went back to {found['taskDefinition'].rpartition('/')[2]}: {why}\n"
                f"{said}\nWhat its containers printed: bindery deploy aws logs {service}"
            )
        line = f"{service}: {found['runningCount']} of {found['desiredCount']} running"
        if line != last:
            last = line
            say(line)
        time.sleep(LOOK_SECONDS)
    raise DeployError(
        f"{service} isn't stable after {PATIENCE_SECONDS / 60:.0f} minutes; ECS goes on trying: "
        "bindery deploy aws status"
    )


def sleepers(names: Iterable[str]) -> list[str]:
    """Name the services that may sleep: the one of size minimal."""
    return [name for name in names if name.endswith("-platform")]


def wake(ecs: Any, cluster: str, service: str, seconds: float) -> None:
    """Wake a platform, and keep it awake for a while."""
    arn = look(ecs, cluster, service)["serviceArn"]
    ecs.tag_resource(resourceArn=arn, tags=[{"key": AWAKE_UNTIL, "value": f"{time.time() + seconds:.0f}"}])
    ecs.update_service(cluster=cluster, service=service, desiredCount=1)


def awake_until(found: Mapping[str, Any]) -> float:
    """Give until when somebody wants a service to stay awake; 0 where nobody does."""
    tags = {each["key"]: each["value"] for each in found.get("tags", [])}
    try:
        return float(tags.get(AWAKE_UNTIL, "0"))
    except ValueError:
        return 0.0
