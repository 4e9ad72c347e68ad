"""Tasks that are run once and waited for: the migration of a release, and a command that somebody asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagster_project.operations.deploy.errors import DeployError

PATIENCE_SECONDS = 1800.0
LOOK_SECONDS = 5.0
LINES = 20
CONTAINER = "main"
STARTED_BY = "bindery-deploy"
Say = Callable[[str], None]


def migrate(ecs: Any, logs: Any, cluster: str, told: Mapping[str, Any], group: str, say: Say) -> None:
    """Run the migration of the newest definition, or take up the one that runs already.

    Args:
        ecs: Client.
        logs: Client.
        cluster: Where.
        told: Terraform's output ``migrate``: definition and network.
        group: Log group.
        say: Takes a line.

    Raises:
        DeployError: It ended with an error, or doesn't end; holds its last lines.
    """
    definition = str(told["task_definition"])
    arn = _running(ecs, cluster, definition)
    if arn is None:
        arn = _start(ecs, cluster, definition, told)
    else:
        say("the migration of this release runs already; waiting for it")
    task = _ended(ecs, cluster, arn, say)
    containers = {each["name"]: each for each in task["containers"]}
    code = containers.get(CONTAINER, {}).get("exitCode")
    if code == 0:
        return
    lines = _last_lines(logs, group, definition, arn)
    why = containers.get(CONTAINER, {}).get("reason") or task.get("stoppedReason", "no reason given")
    ended = f"ended with {code}" if code is not None else "never started"
    shown = "\n".join(f"    {line}" for line in lines) or "    (it printed nothing)"
    raise DeployError(
        f"the migration {ended}: {why}\n{shown}\nNothing was rolled: the services run what they ran. "
        f"All of it: aws logs tail {group} --log-stream-name-prefix {_family(definition)}"
    )


def run_once(
    ecs: Any, logs: Any, told: Mapping[str, Any], words: Sequence[str], account: str, say: Say
) -> tuple[int | None, list[str]]:
    """Run a command in a task of its own, with the rights of the services, and wait for it.

    Args:
        ecs: Client.
        logs: Client.
        told: Terraform's outputs.
        words: The command.
        account: Whose.
        say: Takes a line.

    Returns:
        Its exit code, None where it never started, and what it printed last.
    """
    definition = f"{told['project']}-step"
    overrides = {
        "taskRoleArn": f"arn:aws:iam::{account}:role/{told['project']}-task-platform",
        "containerOverrides": [{"name": CONTAINER, "command": list(words)}],
    }
    arn = _start(ecs, told["cluster"], definition, told["migrate"], overrides)
    task = _ended(ecs, told["cluster"], arn, say)
    codes = [each.get("exitCode") for each in task["containers"] if each["name"] == CONTAINER]
    return (codes or [None])[0], _last_lines(logs, told["log_group"], definition, arn, 1000)


def _family(definition: str) -> str:
    return definition.rpartition("/")[2].partition(":")[0]


def _running(ecs: Any, cluster: str, definition: str) -> str | None:
    pages = ecs.get_paginator("list_tasks").paginate(cluster=cluster, family=_family(definition))
    arns = [arn for page in pages for arn in page["taskArns"]]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns[:100])["tasks"] if arns else []
    same = [each["taskArn"] for each in tasks if each["taskDefinitionArn"] == definition]
    return str(same[0]) if same else None


def _start(
    ecs: Any, cluster: str, definition: str, told: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> str:
    network = {
        "subnets": list(told["subnets"]),
        "securityGroups": list(told["security_groups"]),
        "assignPublicIp": "ENABLED" if told["public_ip"] else "DISABLED",
    }
    answer = ecs.run_task(
        cluster=cluster,
        taskDefinition=definition,
        launchType="FARGATE",
        startedBy=STARTED_BY,
        networkConfiguration={"awsvpcConfiguration": network},
        **({"overrides": overrides} if overrides else {}),
    )
    if not answer["tasks"]:
        said = "; ".join(str(each.get("reason")) for each in answer.get("failures", [])) or "no reason given"
        raise DeployError(f"{_family(definition)} can't be started: {said}")
    return str(answer["tasks"][0]["taskArn"])


def _ended(ecs: Any, cluster: str, arn: str, say: Say) -> Mapping[str, Any]:
    deadline, last = time.monotonic() + PATIENCE_SECONDS, ""
    while time.monotonic() < deadline:
        tasks = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        # A task that was just started may not be known everywhere yet.
        task: Mapping[str, Any] = tasks[0] if tasks else {"lastStatus": "PENDING"}
        if task["lastStatus"] == "STOPPED":
            return task
        if task["lastStatus"] != last:
            last = task["lastStatus"]
            say(f"task: {last.lower()}")
        time.sleep(LOOK_SECONDS)
    raise DeployError(f"the task {arn} hasn't ended after {PATIENCE_SECONDS / 60:.0f} minutes; it goes on")


def _last_lines(logs: Any, group: str, definition: str, arn: str, lines: int = LINES) -> list[str]:
    from botocore.exceptions import ClientError

    stream = f"{_family(definition)}/{CONTAINER}/{arn.rpartition('/')[2]}"
    try:
        told = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False)
    except ClientError:
        return []
    return [str(event["message"]).rstrip("\n") for event in told["events"]]
