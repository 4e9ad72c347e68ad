"""What ECS is asked for, what its refusals mean, and what is said of a task that died."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dagster_project.execution.compute import CLASSES, Compute
from dagster_project.execution.ecs import tasks
from dagster_project.execution.ecs.cluster import BusyError, NoCapacityError, RefusedError, refusal
from dagster_project.execution.ecs.diagnosis import Death, death_of, explain, explain_run
from dagster_project.execution.ecs.sizes import Size, size_of

PLACE = tasks.Place(
    "shop",
    "shop",
    ("subnet-1", "subnet-2"),
    ("sg-1",),
    True,
    "FARGATE_SPOT",
    "shop-gpu",
    True,
    "r/dagster:1",
    "r/dbt:1",
)
SMALL = size_of(CLASSES["small"])
GPU = size_of(CLASSES["gpu"], "shop-gpu")


def request(size: Size = SMALL, **more: Any) -> dict[str, Any]:
    tags = tasks.task_tags(PLACE, "step", CLASSES["small"], {"bindery.run": "r1", "bindery.step": "load[1]"})
    words = more.pop("command", ["python", "-m", "x"])
    return tasks.step_request(PLACE, "shop-step", size, words, {"A": "b"}, tags, run_id="r1", **more)


def test_a_request_says_all_of_a_task() -> None:
    made = request()
    assert made["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
    assert "launchType" not in made, "ECS refuses both"
    network = made["networkConfiguration"]["awsvpcConfiguration"]
    assert network == {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED"}
    assert made["overrides"] == {
        "cpu": "1024",
        "memory": "2048",
        "containerOverrides": [
            {"name": "main", "command": ["python", "-m", "x"], "environment": [{"name": "A", "value": "b"}]}
        ],
    }
    tags = {each["key"]: each["value"] for each in made["tags"]}
    assert tags["bindery.project"] == "shop"
    assert tags["bindery.step"].startswith("load-1--")
    assert "bindery.commit" not in tags, "an empty one says nothing"
    assert (made["startedBy"], made["enableExecuteCommand"]) == ("r1", True)
    assert request(on_demand=True)["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE"


def test_nothing_of_one_request_is_in_the_next() -> None:
    first = request(GPU)
    kept = copy.deepcopy(request())
    first["overrides"]["containerOverrides"][0]["command"].append("more")
    first["networkConfiguration"]["awsvpcConfiguration"]["subnets"].clear()
    first["tags"].clear()
    assert request() == kept
    assert "resourceRequirements" not in kept["overrides"]["containerOverrides"][0]


def test_a_gpu_goes_to_instances_which_have_no_public_addresses_for_tasks() -> None:
    made = request(GPU, on_demand=True)
    assert made["capacityProviderStrategy"] == [{"capacityProvider": "shop-gpu", "weight": 1}]
    assert made["overrides"]["containerOverrides"][0]["resourceRequirements"] == [{"type": "GPU", "value": "1"}]
    assert made["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"


def test_arguments_that_ecs_would_refuse_are_refused_with_the_fix() -> None:
    with pytest.raises(tasks.TaskError, match=r"8192.*split the job"):
        request(command=["x" * 8192])


@pytest.mark.parametrize(
    ("image", "size", "family", "own"),
    [
        (None, SMALL, "shop-step", None),
        ("r/dagster:1", SMALL, "shop-step", None),
        ("dbt", SMALL, "shop-step-dbt", None),
        ("r/dbt:1", SMALL, "shop-step-dbt", None),
        ("r/model:7", SMALL, "shop-step", "r/model:7"),
        (None, GPU, "shop-step-gpu", None),
        ("r/model:7", GPU, "shop-step-gpu", "r/model:7"),
    ],
)
def test_a_step_has_the_family_of_its_image(image: str | None, size: Size, family: str, own: str | None) -> None:
    compute = Compute("c", 1, 2**30, image=image)
    assert (PLACE.step_family(compute, size), PLACE.own_image(compute)) == (family, own)


def test_tags_have_the_characters_that_aws_allows_and_stay_different() -> None:
    assert tasks.tag_value("raw__books") == "raw__books"
    first, second = tasks.tag_value("load[1]"), tasks.tag_value("load{1}")
    assert first != second
    assert len(tasks.tag_value("x" * 999)) == 256


def test_a_derived_definition_has_another_image_and_nothing_of_ecs_own() -> None:
    options = {"awslogs-group": "g", "awslogs-stream-prefix": "shop-step"}
    base = {
        "family": "shop-step",
        "revision": 7,
        "status": "ACTIVE",
        "cpu": "1024",
        "containerDefinitions": [
            {"name": "main", "image": "r/dagster:1", "logConfiguration": {"logDriver": "awslogs", "options": options}},
            {"name": "side", "image": "r/side:1"},
        ],
    }
    kept = copy.deepcopy(base)
    made = tasks.derived_definition(base, "r/model:7", ["family", "cpu", "containerDefinitions"])
    assert base == kept
    assert made.keys() == {"family", "cpu", "containerDefinitions"}
    assert made["family"] == tasks.derived_family("shop-step", "r/model:7") != "shop-step"
    main, side = made["containerDefinitions"]
    assert main["image"] == "r/model:7"
    assert main["logConfiguration"]["options"]["awslogs-stream-prefix"] == made["family"]
    assert side == base["containerDefinitions"][1]  # type: ignore[index]


DENIED = "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: ecs:RunTask on resource: arn:aws:ecs:::t/x"


@pytest.mark.parametrize(
    ("code", "said", "kind", "words"),
    [
        ("", "Capacity is unavailable at this time. Please try again later", NoCapacityError, "FARGATE_SPOT has no"),
        ("", "RESOURCE:GPU", NoCapacityError, "has no capacity"),
        ("ThrottlingException", "Rate exceeded", BusyError, "at the moment"),
        ("InvalidParameterException", "Throttling of EC2", BusyError, "at the moment"),
        ("LimitExceededException", "You've reached the limit on the number of tasks", BusyError, "limit"),
        ("AccessDeniedException", DENIED, RefusedError, "iam:PassRole"),
        ("ClusterNotFoundException", "Cluster not found.", RefusedError, "BINDERY_ECS_CLUSTER"),
        ("ClientException", "No Fargate configuration exists for given values.", RefusedError, "1024 CPU units"),
        ("InvalidParameterException", "The subnet ID 'subnet-1' does not exist", RefusedError, "BINDERY_ECS_SUBNETS"),
        ("ClientException", "TaskDefinition is inactive", RefusedError, "`make deploy` registers shop-step"),
    ],
)
def test_a_refusal_is_told_by_kind_and_with_the_fix(code: str, said: str, kind: type[Exception], words: str) -> None:
    found = refusal(code, said, request())
    assert type(found) is kind
    assert words in str(found)


def stopped(code: int | None = None, stop: str = "TaskFailedToStart", reason: str = "", container: str = "") -> Death:
    told: dict[str, Any] = {"stopCode": stop, "stoppedReason": reason, "containers": [{"name": "main"}]}
    if code is not None:
        told["containers"][0]["exitCode"] = code
    if container:
        told["containers"][0]["reason"] = container
    return death_of(told)


@pytest.mark.parametrize(
    ("death", "what"),
    [
        (stopped(0, "EssentialContainerExited", "Essential container in task exited"), "good"),
        (stopped(137, "EssentialContainerExited", "x", "OutOfMemoryError: Container killed"), "out_of_memory"),
        (stopped(143, "SpotInterruption", "Your Spot Task was interrupted."), "interrupted"),
        (stopped(143, "TerminationNotice", "Your Spot Task was interrupted."), "interrupted"),
        (stopped(143, "TerminationNotice", "ECS is performing maintenance on the infrastructure"), "interrupted"),
        (stopped(reason="Capacity is unavailable at this time. Please try again later"), "no_capacity"),
        (stopped(reason="Timeout waiting for network interface provisioning to complete."), "transient"),
        (stopped(reason="CannotPullContainerError: dial tcp: i/o timeout"), "transient"),
        (stopped(reason="CannotPullContainerError: image:1: not found"), ""),
        (stopped(1, "EssentialContainerExited", "Essential container in task exited"), ""),
        (stopped(137, "UserInitiated", "Timeout waiting for network interface provisioning"), ""),
    ],
)
def test_a_death_is_read_from_what_ecs_says(death: Death, what: str) -> None:
    kinds = ("good", "out_of_memory", "interrupted", "no_capacity", "transient")
    assert [kind for kind in kinds if getattr(death, kind)] == ([what] if what else [])


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (stopped(reason="CannotPullContainerError: image:1: not found"), "`make deploy` pushes"),
        (stopped(reason="CannotPullContainerError: AccessDenied"), "ecr:BatchGetImage"),
        (stopped(reason="CannotPullContainerError: dial tcp: i/o timeout"), "BINDERY_ECS_PUBLIC_IP=true"),
        (stopped(reason="ResourceInitializationError: unable to pull secrets or registry auth"), "execution role"),
        (stopped(reason="Capacity is unavailable at this time."), "BINDERY_ECS_SUBNETS"),
        (stopped(reason="Task provisioning failed."), "nothing in the step"),
        (stopped(137, "UserInitiated", "stopped by hand"), "CloudTrail"),
        (stopped(137, "EssentialContainerExited", "Essential container in task exited"), "a larger class"),
        (stopped(127, "EssentialContainerExited", "Essential container in task exited"), "lacks the program"),
        (stopped(143, "SpotInterruption", "Your Spot Task was interrupted."), "BINDERY_ECS_CAPACITY=FARGATE"),
    ],
)
def test_what_to_change_is_said(death: Death, words: str) -> None:
    said = explain(death, CLASSES["small"], SMALL, ["one", "two"], "arn:aws:ecs:r:1:task/shop/abc")
    assert words in said
    assert "Task abc, compute class small (1 CPU, 1 GiB), task of 1 vCPU, 2 GiB on Fargate" in said
    assert said.endswith("Its last lines:\n  one\n  two")
    assert words in explain_run(death, [], "arn:aws:ecs:r:1:task/shop/abc", begun=False) or "larger class" in words


def test_a_limit_is_the_tasks_not_the_classs() -> None:
    death = stopped(137, "EssentialContainerExited", "x", "OutOfMemoryError: Container killed due to memory usage")
    said = explain(death, CLASSES["small"], SMALL, [], "arn/abc")
    assert said.startswith("It ran out of memory: the kernel ended it at its limit of 2 GiB.")
