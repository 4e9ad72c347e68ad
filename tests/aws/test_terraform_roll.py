"""Migrations, services and tunnels as ECS tells of them: failed, taken back, or running already."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from dagster_project.operations.deploy import migration, services, tunnel
from dagster_project.operations.deploy.errors import DeployError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (migration, services, tunnel):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


class Migration:
    """ECS as a migration sees it: one task, which ends as it is told."""

    def __init__(self, code: int | None, running: bool = False) -> None:
        self.code, self.running, self.started = code, running, 0
        self.states = iter(["PENDING", "RUNNING", "STOPPED"])

    def get_paginator(self, _name: str) -> Any:
        arns = ["arn:aws:ecs:eu-central-1:1:task/bindery/7"] if self.running else []
        return type("Pages", (), {"paginate": lambda _self, **_words: iter([{"taskArns": arns}])})()

    def run_task(self, **words: Any) -> dict[str, Any]:
        self.started += 1
        assert words["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "ENABLED"
        return {"tasks": [{"taskArn": "arn:aws:ecs:eu-central-1:1:task/bindery/7"}]}

    def describe_tasks(self, **_words: Any) -> dict[str, Any]:
        container = {"name": "main"} | ({"exitCode": self.code} if self.code is not None else {})
        task = {
            "taskArn": "arn:aws:ecs:eu-central-1:1:task/bindery/7",
            "taskDefinitionArn": "arn:aws:ecs:eu-central-1:1:task-definition/bindery-migrate:3",
            "lastStatus": "RUNNING" if self.running and not self.started else next(self.states),
            "containers": [container],
            "stoppedReason": "CannotPullContainerError: no route",
        }
        self.running = False
        return {"tasks": [task]}


class Lines:
    def get_log_events(self, **words: Any) -> dict[str, Any]:
        assert words["logStreamName"] == "bindery-migrate/main/7"
        return {"events": [{"message": "error: a newer one migrated it\n"}]}


TOLD = {
    "task_definition": "arn:aws:ecs:eu-central-1:1:task-definition/bindery-migrate:3",
    "subnets": ["subnet-1"],
    "security_groups": ["sg-1"],
    "public_ip": True,
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("code", "says"), [(5, "ended with 5"), (None, "never started: CannotPullContainerError")])
def test_a_migration_that_fails_shows_why_and_rolls_nothing(code: int | None, says: str) -> None:
    with pytest.raises(DeployError, match=says) as failed:
        migration.migrate(Migration(code), Lines(), "bindery", TOLD, "/bindery/bindery", lambda _line: None)
    assert "error: a newer one migrated it" in str(failed.value)
    assert "Nothing was rolled" in str(failed.value)


@pytest.mark.usefixtures("quick")
def test_a_migration_that_runs_already_is_taken_up() -> None:
    ecs = Migration(0, running=True)
    migration.migrate(ecs, Lines(), "bindery", TOLD, "/bindery/bindery", lambda _line: None)
    assert ecs.started == 0


class Service:
    """ECS as a roll sees it: one service, whose deployment goes as it is told."""

    def __init__(self, *states: str) -> None:
        self.states = itertools.chain(states, itertools.repeat(states[-1]))
        self.definition, self.desired = "d:1", 1
        self.updates: list[dict[str, Any]] = []

    def update_service(self, **words: Any) -> None:
        self.updates.append(words)
        self.definition = words["taskDefinition"]

    def describe_services(self, **_words: Any) -> dict[str, Any]:
        state = next(self.states) if self.updates else "COMPLETED"
        deployments = [
            {"taskDefinition": self.definition, "rolloutState": state, "rolloutStateReason": "circuit breaker"}
        ]
        if state == "GONE":
            deployments[0].update(taskDefinition="d:1", rolloutState="COMPLETED")
        return {
            "services": [
                {
                    "status": "ACTIVE",
                    "serviceName": "bindery-code",
                    "taskDefinition": deployments[0]["taskDefinition"],
                    "desiredCount": self.desired,
                    "runningCount": 1,
                    "deployments": deployments,
                    "events": [{"message": "(service bindery-code) was unable to place a task"}],
                }
            ]
        }


@pytest.mark.usefixtures("quick")
def test_a_service_is_rolled_and_waited_for() -> None:
    ecs, said = Service("IN_PROGRESS", "IN_PROGRESS", "COMPLETED"), list[str]()
    services.roll(ecs, "bindery", {"bindery-code": {"task_definition": "d:2", "tasks": 1}}, said.append)
    assert ecs.updates == [
        {"cluster": "bindery", "service": "bindery-code", "taskDefinition": "d:2", "desiredCount": 1}
    ]
    assert said[-1] == "bindery-code: 1 running, healthy"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("last", ["FAILED", "GONE"])
def test_a_release_that_ecs_took_back_is_an_error(last: str) -> None:
    with pytest.raises(DeployError, match="bindery-code didn't come up") as failed:
        services.roll(
            Service("IN_PROGRESS", last),
            "bindery",
            {"bindery-code": {"task_definition": "d:2", "tasks": 1}},
            lambda _line: None,
        )
    assert "unable to place a task" in str(failed.value)


def test_a_tunnel_goes_to_the_webservers_container() -> None:
    class Ecs:
        def list_tasks(self, **_words: Any) -> dict[str, Any]:
            return {"taskArns": ["arn:aws:ecs:x:1:task/bindery/abc"]}

        def describe_tasks(self, **_words: Any) -> dict[str, Any]:
            containers = [
                {"name": "daemon", "runtimeId": "abc-1"},
                {"name": "webserver", "runtimeId": "abc-2", "healthStatus": "HEALTHY"},
            ]
            return {"tasks": [{"taskArn": "arn:aws:ecs:x:1:task/bindery/abc", "containers": containers}]}

    found = tunnel.target(Ecs(), "bindery", ["bindery-platform"], lambda _line: None)
    assert found == "ecs:bindery_abc_abc-2"
    assert tunnel.session_words(found, "eu-west-1", 3001)[-1] == '{"portNumber": ["3000"], "localPortNumber": ["3001"]}'
