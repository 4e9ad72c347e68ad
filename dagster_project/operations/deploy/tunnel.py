"""The way to a UI without a load balancer: a session of AWS's Systems Manager into the webserver's container."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from dagster_project.operations.deploy.errors import DeployError

PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 5.0
UI_PORT = 3000
Say = Callable[[str], None]


def target(ecs: Any, cluster: str, services: Iterable[str], say: Say) -> str:
    """Wait for the webserver's container and give its name as Systems Manager has it.

    Raises:
        DeployError: It doesn't come up.
    """
    (service,) = [name for name in services if name.endswith(("-platform", "-webserver"))]
    wanted = "webserver" if service.endswith("-platform") else "main"
    deadline, told = time.monotonic() + PATIENCE_SECONDS, False
    while time.monotonic() < deadline:
        arns = ecs.list_tasks(cluster=cluster, serviceName=service, desiredStatus="RUNNING")["taskArns"]
        tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []
        for task in tasks:
            for container in task["containers"]:
                ready = container.get("healthStatus", "HEALTHY") in {"HEALTHY", "UNKNOWN"}
                if container["name"] == wanted and container.get("runtimeId") and ready:
                    return f"ecs:{cluster}_{task['taskArn'].rpartition('/')[2]}_{container['runtimeId']}"
        if not told:
            say("waiting for the webserver; a platform that slept takes two minutes")
            told = True
        time.sleep(LOOK_SECONDS)
    raise DeployError(f"the webserver of {service} doesn't come up: bindery deploy aws status")


def session_words(found: str, region: str, port: int) -> list[str]:
    """Give the command that opens the tunnel."""
    ports = json.dumps({"portNumber": [str(UI_PORT)], "localPortNumber": [str(port)]})
    words = ["aws", "ssm", "start-session", "--region", region, "--target", found]
    return [*words, "--document-name", "AWS-StartPortForwardingSession", "--parameters", ports]
