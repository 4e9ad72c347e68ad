"""The cluster, spoken to through boto3: start, look, list, stop; and what its refusals mean.

Listings go through every page and stay within the cluster and the project. What is made of an answer is decided by who
asks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_project.execution.ecs.tasks import CONTAINER, TaskError, derived_definition, derived_family
from dagster_project.execution.labels import PROJECT

if TYPE_CHECKING:
    from dagster_project.execution.ecs.tasks import Place

AT_ONCE = 100
"""Tasks that ECS describes, and lists, in one answer."""
_NO_CAPACITY = ("capacity is unavailable", "resource:", "no container instances", "insufficient capacity")
_BUSY = ("throttl", "rate exceeded", "concurrent tasks limit", "you've reached the limit", "agent", "serverexception")
Task = Mapping[str, Any]


class RefusedError(TaskError):
    """ECS doesn't start the task, and won't next time either."""


class NoCapacityError(TaskError):
    """There is no room for the task where it was asked for; elsewhere or later there may be."""


class BusyError(TaskError):
    """ECS is asked too often, or has a hiccup; the same works in a while."""


@dataclass
class Cluster:
    """One cluster, and the project whose tasks are seen in it."""

    name: str
    project: str
    ecs: Any
    logs: Any
    _definitions: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Place) -> Cluster:
        """Connect with what boto3 finds in the environment: region, endpoint, the task's role."""
        import boto3
        from botocore.config import Config

        config = Config(retries={"max_attempts": 8, "mode": "standard"}, connect_timeout=5, read_timeout=30)
        return cls(
            place.cluster, place.project, boto3.client("ecs", config=config), boto3.client("logs", config=config)
        )

    def start(self, request: Mapping[str, Any]) -> str:
        """Start one task and give its ARN.

        Raises:
            RefusedError: It can never start like this.
            NoCapacityError: There is no room.
            BusyError: Not now.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            # The token makes a repeated request the same one: boto3 repeats what broke off.
            answer = self.ecs.run_task(**request, clientToken=str(uuid.uuid4()))
        except ClientError as error:
            told = error.response.get("Error", {})
            if int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500:
                raise BusyError(f"ECS has trouble of its own: {told.get('Message', error)}") from None
            raise refusal(str(told.get("Code", "")), str(told.get("Message", error)), request) from None
        except BotoCoreError as error:
            raise BusyError(f"ECS can't be asked: {error}") from None
        if answer["tasks"]:
            return str(answer["tasks"][0]["taskArn"])
        failures = answer.get("failures") or [{}]
        said = "; ".join(
            " ".join(str(each[part]) for part in ("reason", "detail") if each.get(part)) for each in failures
        )
        raise refusal("", said or "no reason given", request)

    def describe(self, arns: Iterable[str]) -> dict[str, Task]:
        """Look at tasks: ARN -> task. What ECS doesn't know (yet, or any more) isn't in the answer."""
        wanted = list(dict.fromkeys(arns))
        found: dict[str, Task] = {}
        for first in range(0, len(wanted), AT_ONCE):
            told = self.ecs.describe_tasks(cluster=self.name, tasks=wanted[first : first + AT_ONCE], include=["TAGS"])
            found.update({str(task["taskArn"]): task for task in told["tasks"]})
        return found

    def arns(self, **filters: str) -> Iterator[str]:
        """List tasks of the cluster, page by page; running ones where nothing else is said."""
        pages = self.ecs.get_paginator("list_tasks")
        for page in pages.paginate(cluster=self.name, PaginationConfig={"PageSize": AT_ONCE}, **filters):
            yield from page["taskArns"]

    def ours(self, **filters: str) -> list[Task]:
        """List the project's tasks with their tags: a cluster may be shared, and tags say whose a task is."""
        found = self.describe(self.arns(**filters))
        return [task for task in found.values() if tags_of(task).get(PROJECT) == self.project]

    def of_run(self, run_id: str) -> list[Task]:
        """List the tasks of a run's steps that aren't stopped."""
        return self.ours(startedBy=run_id)

    def stop(self, arn: str, reason: str) -> bool:
        """Ask a task to end; say whether there was one."""
        from botocore.exceptions import ClientError

        try:
            self.ecs.stop_task(cluster=self.name, task=arn, reason=reason[:255])
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"InvalidParameterException", "ClientException"}:
                return False  # it is gone
            raise
        return True

    def definition(self, name: str) -> Mapping[str, Any]:
        """Describe a task definition; one that has a revision never changes and is asked for once.

        Raises:
            RefusedError: There is none.
        """
        from botocore.exceptions import ClientError

        if name not in self._definitions:
            try:
                found = self.ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]
            except ClientError as error:
                raise RefusedError(
                    f"there is no task definition {name}: {error}. What to change: `make deploy` registers it "
                    "(deploy/terraform)"
                ) from None
            if ":" not in name.rpartition("/")[2]:
                return dict(found)
            self._definitions[name] = found
        return self._definitions[name]

    def with_image(self, base: str, image: str) -> str:
        """Give the family that is another one with an image of its own; register it where it is missing or old."""
        from botocore.exceptions import ClientError

        members = list(self.ecs.meta.service_model.shape_for("RegisterTaskDefinitionRequest").members)
        wanted = derived_definition(self.definition(base), image, members)
        family = derived_family(base, image)
        try:
            present = self.ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        except ClientError:
            present = {}
        if {name: present.get(name) for name in wanted} != wanted:
            self.ecs.register_task_definition(**wanted, tags=[{"key": PROJECT, "value": self.project}])
        return family

    def last_lines(self, task: Task, lines: int) -> list[str]:
        """Read what a task's container printed last, from CloudWatch; nothing where there is no log to read."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            group, stream = self.log_of(task)
            told = self.logs.get_log_events(logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False)
        except (ClientError, BotoCoreError, RefusedError, LookupError):
            return []
        return [str(event["message"]).rstrip("\n") for event in told["events"]]

    def log_of(self, task: Task) -> tuple[str, str]:
        """Give the log group and stream of a task's container.

        Raises:
            LookupError: Its definition sends logs nowhere that can be read.
            RefusedError: Its definition is gone.
        """
        definition = self.definition(str(task["taskDefinitionArn"]))
        (container,) = [each for each in definition["containerDefinitions"] if each["name"] == CONTAINER]
        options = container.get("logConfiguration", {}).get("options", {})
        identity = str(task["taskArn"]).rpartition("/")[2]
        return options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{CONTAINER}/{identity}"


def refusal(code: str, said: str, request: Mapping[str, Any]) -> TaskError:
    """Find the kind and the words for what ECS says instead of starting a task."""
    text = f"{code} {said}".lower()
    asked = request.get("capacityProviderStrategy") or [{}]
    where = asked[0].get("capacityProvider") or request.get("launchType") or "the cluster"
    # A denial names a "resource:", too, so codes come before words.
    denied = "accessdenied" in code.lower()
    if not denied and any(words in text for words in _NO_CAPACITY):
        return NoCapacityError(f"{where} has no capacity: {said}")
    if not denied and any(words in text for words in _BUSY):
        return BusyError(f"ECS takes no task at the moment: {said}")
    overrides = request.get("overrides") or {}
    hint = ""
    if "no fargate configuration" in text:
        pair = f"{overrides.get('cpu')} CPU units and {overrides.get('memory')} MiB"
        hint = f" Fargate has no size of {pair}; docs/ecs.md lists the sizes."
    elif code == "ClusterNotFoundException":
        hint = f" BINDERY_ECS_CLUSTER names the cluster ({request.get('cluster')})."
    elif denied:
        hint = " The role of the run's task (P-task-run) needs ecs:RunTask on the family and iam:PassRole on its roles."
    elif "subnet" in text or "security group" in text:
        hint = (
            " BINDERY_ECS_SUBNETS and BINDERY_ECS_SECURITY_GROUPS name the network; `bindery doctor aws` looks at it."
        )
    elif "taskdefinition" in text or "task definition" in text:
        hint = f" `make deploy` registers {request.get('taskDefinition')}."
    return RefusedError(f"ECS refuses the task: {said}.{hint}")


def tags_of(task: Task) -> dict[str, str]:
    """Give a task's tags by key."""
    return {str(each["key"]): str(each.get("value", "")) for each in task.get("tags", [])}


def container_of(task: Task) -> Mapping[str, Any]:
    """Give what is told of a task's container, nothing where it has none yet."""
    containers: Sequence[Mapping[str, Any]] = task.get("containers") or [{}]
    return next((each for each in containers if each.get("name") == CONTAINER), containers[0])


def age_seconds(task: Task) -> float:
    """Give the seconds since a task was asked for."""
    created = task.get("createdAt")
    return time.time() - created.timestamp() if created is not None else 0.0
