"""The emulated life of tasks: what moto answers, made true by a backend.

moto's own transitions are frozen; a task is stopped when its process is. This runs in the emulator's own process.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ecr.models import ecr_backends
from moto.ecs.exceptions import EcsClientException, InvalidParameterException
from moto.ecs.models import Task
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.logs.models import logs_backends
from moto.moto_api import state_manager
from moto.secretsmanager.models import secretsmanager_backends
from moto.ssm.models import ssm_backends

from dagster_project.execution.ecs.sizes import is_valid
from tests.aws.ecs_emulator.backends import Backend, End, Running, Spec

PAGE = 100
MANAGED = {"FARGATE", "FARGATE_SPOT"}
SECOND_NATURE = 0.1
"""Seconds between two looks at the processes."""


@dataclass
class Life:
    """One task and what runs for it."""

    task: Any
    spec: Spec
    provider: str
    running: Running | None = None
    why: tuple[str, str] | None = None
    """Stop code and reason, where somebody else ends it."""
    kill_at: float | None = None


@dataclass
class Emulator:
    """All tasks of the account."""

    backend: Backend
    endpoint: str
    inside: str
    """The endpoint as tasks reach it."""
    stop_seconds: float = 2.0
    lives: dict[str, Life] = field(default_factory=dict)
    without_capacity: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    requests: list[dict[str, Any]] = field(default_factory=list)
    fumbles: list[tuple[str, str]] = field(default_factory=list)
    """Kinds of tasks, and the reasons with which the next of that kind fail to start."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def install(self) -> None:
        """Take the place of moto's own."""
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**9})
        ours = self

        def run_task(response: Any) -> ActionResult:
            return ActionResult(ours.run_task(response))

        def list_tasks(response: Any) -> ActionResult:
            return ActionResult(ours.list_tasks(response))

        def stop_task(response: Any) -> ActionResult:
            task = ours.find(response._get_param("task"))
            ours.end(task.id, "UserInitiated", response._get_param("reason") or "Task stopped by user")
            return ActionResult({"task": task})

        described = EC2ContainerServiceResponse.describe_tasks

        def describe_tasks(response: Any) -> ActionResult:
            if len(response._get_param("tasks", [])) > PAGE:
                raise InvalidParameterException("Tasks cannot have more than 100 elements")
            with ours.lock:
                return described(response)

        for name, function in {
            "run_task": run_task,
            "list_tasks": list_tasks,
            "stop_task": stop_task,
            "describe_tasks": describe_tasks,
        }.items():
            setattr(EC2ContainerServiceResponse, name, function)
        threading.Thread(target=self._watch, daemon=True).start()

    def run_task(self, response: Any) -> dict[str, Any]:
        """Start a task as ``RunTask`` does."""
        asked = {name: response._get_param(name) for name in response._get_params()}
        with self.lock:
            self.requests.append(asked)
        ecs = response.ecs_backend
        cluster = ecs._get_cluster(asked.get("cluster", "default"))
        definition = ecs.describe_task_definition(asked["taskDefinition"])
        strategy, launch_type = asked.get("capacityProviderStrategy"), asked.get("launchType")
        if strategy and launch_type:
            raise InvalidParameterException("Specify either Launch Type or Capacity Provider Strategy, but not both.")
        provider = strategy[0]["capacityProvider"] if strategy else launch_type or "FARGATE"
        overrides = asked.get("overrides") or {}
        if len(json.dumps(overrides, separators=(",", ":"))) > 8192:
            raise InvalidParameterException("Container Overrides length must be at most 8192")
        cpu, memory = int(overrides.get("cpu") or definition.cpu), int(overrides.get("memory") or definition.memory)
        if provider in MANAGED:
            if not is_valid(cpu, memory):
                raise EcsClientException(
                    f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory."
                )
        elif provider not in ecs.capacity_providers:
            raise InvalidParameterException(f"The specified capacity provider '{provider}' was not found.")
        self._look_at_network(response, asked)
        with self.lock:
            if self.without_capacity[provider]:
                self.without_capacity[provider] -= 1
                said = (
                    "Capacity is unavailable at this time. Please try again later or in a different availability zone"
                )
                return {"tasks": [], "failures": [{"reason": said}]}
        task: Any = Task(
            cluster=cluster,
            task_definition=definition,
            container_instance_arn=None,
            resource_requirements={},
            backend=ecs,
            group=f"family:{definition.family}",
            overrides=overrides,
            started_by=asked.get("startedBy") or "",
            tags=asked.get("tags") or [],
            launch_type="FARGATE" if provider in MANAGED else "EC2",
            networking_configuration=asked.get("networkConfiguration"),
            capacity_provider_name=provider,
        )
        task.cpu, task.memory = str(cpu), str(memory)
        task.created_at = datetime.now(UTC)
        task.enable_execute_command = bool(asked.get("enableExecuteCommand"))
        task.last_status = "PROVISIONING"
        task.containers[0].exitCode = None
        with self.lock:
            ecs.tasks.setdefault(cluster.name, {})[task.task_arn] = task
            life = Life(task, self._spec(response, task, definition, overrides, cpu, memory), provider)
            self.lives[task.id] = life
        threading.Thread(target=self._begin, args=(response, life, definition), daemon=True).start()
        return {"tasks": [task], "failures": []}

    def _look_at_network(self, response: Any, asked: Mapping[str, Any]) -> None:
        network = (asked.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        known = ec2_backends[response.current_account][response.region]
        for subnet in network.get("subnets") or []:
            try:
                known.get_subnet(subnet)
            except Exception:
                raise InvalidParameterException(
                    f"Error retrieving subnet information for [{subnet}]: The subnet ID '{subnet}' does not exist"
                ) from None
        if not network.get("securityGroups"):
            raise InvalidParameterException("no security group named")

    def _spec(
        self, response: Any, task: Any, definition: Any, overrides: Mapping[str, Any], cpu: int, memory: int
    ) -> Spec:
        container = definition.container_definitions[0]
        over: Mapping[str, Any] = next(
            (each for each in overrides.get("containerOverrides") or [] if each["name"] == container["name"]), {}
        )
        environment = {
            **{each["name"]: each["value"] for each in container.get("environment") or []},
            **{each["name"]: self._secret(response, each["valueFrom"]) for each in container.get("secrets") or []},
            **{each["name"]: each["value"] for each in over.get("environment") or []},
            "AWS_ENDPOINT_URL": self.inside,
            "AWS_REGION": response.region,
            "AWS_DEFAULT_REGION": response.region,
            "AWS_ACCESS_KEY_ID": "task",
            "AWS_SECRET_ACCESS_KEY": "task",  # pragma: allowlist secret
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "ECS_CONTAINER_METADATA_URI_V4": f"{self.inside}/_ecs/v4/{task.id}",
        }
        command = list(over.get("command") or container.get("command") or [])
        return Spec(task.id, definition.family, container["image"], command, environment, memory, cpu)

    def _secret(self, response: Any, where: str) -> str:
        account, region = response.current_account, response.region
        with contextlib.suppress(Exception):
            if ":parameter/" in where or where.startswith("/"):
                found_parameter: Any = ssm_backends[account][region].get_parameter("/" + where.partition("/")[2])
                return str(found_parameter.value)
            found = secretsmanager_backends[account][region].get_secret_value(where, "", "")
            return str(found["SecretString"])
        return ""

    def _begin(self, response: Any, life: Life, definition: Any) -> None:
        """Take a task from PROVISIONING to RUNNING, or to STOPPED where ECS would not get it there."""
        life.task.last_status = "PENDING"
        if trouble := self._trouble(response, life, definition):
            self._stopped(life, None, "TaskFailedToStart", trouble)
            return
        say = self._log(response, life, definition)
        try:
            running = self.backend.start(life.spec, say)
        except (OSError, RuntimeError) as error:
            self._stopped(life, None, "TaskFailedToStart", f"CannotStartContainerError: {error}")
            return
        with self.lock:
            life.running = running
            life.task.started_at = datetime.now(UTC)
            life.task.last_status = life.task.containers[0].last_status = "RUNNING"
            ended_before = life.why is not None
        if ended_before:
            self.signal(life.task.id, signal.SIGTERM)

    def _trouble(self, response: Any, life: Life, definition: Any) -> str:
        kind = {each["key"]: each.get("value") for each in life.task.tags}.get("bindery.kind", "")
        with self.lock:
            for fumble in self.fumbles:
                if fumble[0] == kind:
                    self.fumbles.remove(fumble)
                    return fumble[1]
        container = definition.container_definitions[0]
        options = (container.get("logConfiguration") or {}).get("options") or {}
        group = options.get("awslogs-group")
        if group and group not in logs_backends[response.current_account][response.region].groups:
            return (
                "ResourceInitializationError: failed to validate logger args: The specified log group "
                f"{group} does not exist."
            )
        registry, _, rest = life.spec.image.partition("/")
        if ".dkr.ecr." not in registry:
            return ""
        name, _, tag = rest.rpartition(":")
        repositories = ecr_backends[response.current_account][response.region].repositories
        images = repositories[name].images if name in repositories else []
        if any(tag in image.image_tags for image in images):
            return ""
        return (
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
            f"{life.spec.image}: {life.spec.image}: not found"
        )

    def _log(self, response: Any, life: Life, definition: Any) -> Any:
        options = (definition.container_definitions[0].get("logConfiguration") or {}).get("options") or {}
        if "awslogs-group" not in options:
            return lambda line: None
        logs = logs_backends[response.current_account][response.region]
        group = options["awslogs-group"]
        name = definition.container_definitions[0]["name"]
        stream = f"{options['awslogs-stream-prefix']}/{name}/{life.task.id}"
        with self.lock:
            logs.create_log_stream(group, stream)

        def say(line: str) -> None:
            with self.lock:
                logs.put_log_events(group, stream, [{"timestamp": int(time.time() * 1000), "message": line or " "}])

        return say

    def _watch(self) -> None:
        while True:
            time.sleep(SECOND_NATURE)
            with self.lock:
                alive = [life for life in self.lives.values() if life.running is not None]
            for life in alive:
                assert life.running is not None
                end = life.running.poll()
                if end is not None:
                    code, reason = life.why or ("EssentialContainerExited", "Essential container in task exited")
                    self._stopped(life, end, code, reason)
                elif life.kill_at is not None and time.monotonic() > life.kill_at:
                    life.running.signal(signal.SIGKILL)

    def _stopped(self, life: Life, end: End | None, code: str, reason: str) -> None:
        task = life.task
        with self.lock:
            life.running = None
            task.stop_code, task.stopped_reason = code, reason
            task.stopped_at = task.execution_stopped_at = datetime.now(UTC)
            container = task.containers[0]
            if end is not None:
                container.exitCode = end.code
                if end.out_of_memory:
                    container.reason = "OutOfMemoryError: Container killed due to memory usage"
            else:
                container.reason = reason
            container.last_status = task.last_status = task.desired_status = "STOPPED"

    def end(self, task_id: str, code: str, reason: str) -> None:
        """Ask a task to end, and end it where it doesn't in time."""
        with self.lock:
            life = self.lives[task_id]
            if life.task.last_status == "STOPPED":
                return
            life.why = (code, reason)
            life.kill_at = time.monotonic() + self.stop_seconds
            life.task.desired_status = "STOPPED"
        self.signal(task_id, signal.SIGTERM)

    def signal(self, task_id: str, number: int) -> None:
        """Send a signal to a task's container."""
        with self.lock:
            running = self.lives[task_id].running
        if running is not None:
            running.signal(number)

    def find(self, name: str) -> Any:
        """Give a task by its ARN or id."""
        life = self.lives.get(name.rpartition("/")[2])
        if life is None:
            raise InvalidParameterException("The referenced task was not found.")
        return life.task

    def list_tasks(self, response: Any) -> dict[str, Any]:
        """List ARNs by pages, as AWS does; moto gives all at once."""
        cluster = response.ecs_backend._get_cluster(response._get_param("cluster", "default"))
        wanted = response._get_param("desiredStatus") or "RUNNING"
        family, started_by = response._get_param("family"), response._get_param("startedBy")
        size = int(response._get_param("maxResults") or PAGE)
        if size > PAGE:
            raise InvalidParameterException("maxResults must be at most 100")
        with self.lock:
            found = [
                life.task.task_arn
                for life in self.lives.values()
                if life.task.cluster_name == cluster.name
                and life.task.desired_status == wanted
                and (not family or life.spec.family == family)
                and (not started_by or life.task.started_by == started_by)
            ]
        first = int(response._get_param("nextToken") or 0)
        answer: dict[str, Any] = {"taskArns": found[first : first + size]}
        if first + size < len(found):
            answer["nextToken"] = str(first + size)
        return answer

    def told(self) -> list[dict[str, Any]]:
        """Tell a test what was started, and how."""
        with self.lock:
            return [
                {
                    "id": life.task.id,
                    "family": life.spec.family,
                    "image": life.spec.image,
                    "command": list(life.spec.command),
                    "environment": dict(life.spec.environment),
                    "memory": life.spec.memory_mib,
                    "cpu": life.spec.cpu_units,
                    "provider": life.provider,
                    "status": life.task.last_status,
                    "tags": {each["key"]: each.get("value", "") for each in life.task.tags},
                    "shell": life.task.enable_execute_command,
                }
                for life in self.lives.values()
            ]

    def metadata(self, task_id: str, part: str) -> dict[str, Any]:
        """Answer as the metadata endpoint of a task does."""
        task = self.lives[task_id].task
        family, _, revision = task.task_definition_arn.rpartition("/")[2].partition(":")
        container = {
            "DockerId": task.id,
            "Name": task.containers[0].name,
            "DockerName": task.containers[0].name,
            "Image": self.lives[task_id].spec.image,
            "DesiredStatus": task.desired_status,
            "KnownStatus": task.last_status,
            "Type": "NORMAL",
        }
        if part != "task":
            return container
        return {
            "Cluster": task.cluster_arn,
            "TaskARN": task.task_arn,
            "Family": family,
            "Revision": revision,
            "DesiredStatus": task.desired_status,
            "KnownStatus": task.last_status,
            "LaunchType": task.launch_type,
            "AvailabilityZone": f"{task.region_name}a",
            "Containers": [container],
        }

    def kill_all(self) -> None:
        """Leave nothing behind."""
        with self.lock:
            alive = [life.running for life in self.lives.values() if life.running is not None]
        for running in alive:
            running.signal(signal.SIGKILL)
