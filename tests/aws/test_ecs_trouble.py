"""What breaks on ECS breaks well: Spot taken back, no capacity, no memory, no image, killed, canceled, left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dagster import DagsterRunStatus
from dagster._core.launcher.base import WorkerStatus

from dagster_project.execution.ecs.cluster import Cluster
from dagster_project.execution.ecs.supervisor import sweep
from dagster_project.execution.ecs.tasks import Place
from dagster_project.settings import Settings, get_settings
from tests.aws.ecs_probe import ABSENT, ATTRIBUTE, MODULE, job
from tests.aws.ecs_world import PROJECT, World, wait_for, world

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def furnished(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("ecs")
    with world(server_settings, admin, folder, "ecs_trouble") as made:
        yield made


@pytest.fixture
def aws(furnished: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    furnished.enter(monkeypatch)
    yield furnished
    for provider in ("FARGATE", "FARGATE_SPOT"):
        furnished.ecs.refuse(provider, 0)


def start(aws: World, name: str, op: str | None = None, seconds: float = 0) -> str:
    config = {"ops": {op: {"config": {"seconds": seconds}}}} if op else {}
    return aws.launch(job(name), MODULE, ATTRIBUTE, run_config=config)


def asleep(aws: World, run: str, op: str) -> str:
    """Wait until an op has printed its line and sleeps; give its task."""
    task = aws.running(run, op)
    wait_for(lambda: any("the last line" in line for line in aws.printed(task)), 60, lambda: aws.log(run))
    return task


def cluster() -> Cluster:
    return Cluster.of(Place.of(get_settings()))


def test_spot_that_is_taken_back_costs_no_retry_and_ends_on_demand(aws: World) -> None:
    run = start(aws, "waits", "patient", 8)
    for number in (1, 2):
        aws.ecs.interrupt(aws.running(run, "patient", number))
    assert aws.finished(run) == "SUCCESS", aws.log(run)
    tasks = aws.ecs.started(run=run, step="patient")
    assert [task["provider"] for task in tasks] == ["FARGATE_SPOT", "FARGATE_SPOT", "FARGATE"]
    assert {task["tags"]["bindery.attempt"] for task in tasks} == {"0"}
    assert aws.kinds(run, "patient") == ["STEP_START", "STEP_START", "STEP_START", "STEP_SUCCESS"]
    said = [each for each in aws.messages(run) if "took the Spot capacity" in each]
    assert len(said) == 2
    assert all("its own retries are untouched" in each for each in said)
    assert "SIGTERM: this task is being stopped" in "\n".join(aws.printed(tasks[0]["id"]))


def test_without_room_on_spot_a_step_starts_on_demand(aws: World) -> None:
    aws.ecs.refuse("FARGATE_SPOT", 1)
    run = start(aws, "waits")
    assert aws.finished(run) == "SUCCESS", aws.log(run)
    (task,) = aws.ecs.started(run=run, step="patient")
    assert task["provider"] == "FARGATE"
    (said,) = [each for each in aws.messages(run) if "has no capacity" in each]
    assert said.startswith("FARGATE_SPOT has no capacity: Capacity is unavailable at this time.")
    assert said.endswith("Starting on FARGATE instead.")


def test_without_any_room_a_step_waits(aws: World) -> None:
    run = start(aws, "waits")
    # The run's own task has started by now, on demand; its step comes seconds later.
    aws.ecs.refuse("FARGATE_SPOT", 2)
    aws.ecs.refuse("FARGATE", 1)
    assert aws.finished(run) == "SUCCESS", aws.log(run)
    said = "\n".join(aws.messages(run))
    assert "FARGATE has no capacity: Capacity is unavailable at this time." in said
    assert "Trying again in 5 s." in said


def test_a_start_that_aws_fumbles_is_made_again(aws: World) -> None:
    reason = "Timeout waiting for network interface provisioning to complete."
    aws.ecs.tell("fumble", kind="step", reason=reason)
    run = start(aws, "waits")
    assert aws.finished(run) == "SUCCESS", aws.log(run)
    assert len(aws.ecs.started(run=run, step="patient")) == 2
    assert "AWS couldn't start the task" in "\n".join(aws.messages(run))


def test_a_step_that_ran_out_of_memory_says_so(aws: World) -> None:
    run = start(aws, "starves")
    assert aws.finished(run) == "FAILURE"
    said = aws.failures(run)
    assert "It ran out of memory: the kernel ended it at its limit of 512 MiB." in said
    assert "exit code 137, ECS says EssentialContainerExited" in said
    assert "OutOfMemoryError: Container killed due to memory usage" in said
    assert "What to change: a larger class" in said
    assert "  filling" in said


def test_a_step_that_is_killed_is_diagnosed_and_tried_again(aws: World) -> None:
    run = start(aws, "comes_again", "stubborn", 8)
    aws.ecs.kill(asleep(aws, run, "stubborn"))
    assert aws.finished(run) == "SUCCESS", aws.log(run)
    assert aws.kinds(run, "stubborn") == ["STEP_START", "STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_SUCCESS"]
    said = aws.failures(run)
    assert "It was ended from outside by SIGKILL (exit code 137)." in said
    assert "  the last line before the sleep" in said
    assert [task["tags"]["bindery.attempt"] for task in aws.ecs.started(run=run, step="stubborn")] == ["0", "1"]


def test_a_step_that_is_killed_and_has_no_retries_fails_its_run(aws: World) -> None:
    run = start(aws, "waits", "patient", 60)
    aws.ecs.kill(asleep(aws, run, "patient"))
    assert aws.finished(run) == "FAILURE"
    said = aws.failures(run)
    assert "It was ended from outside by SIGKILL (exit code 137)." in said
    assert "  the last line before the sleep" in said
    assert "What to change: if its memory was near the limit, a larger class" in said


def test_an_image_that_nobody_pushed_is_named_with_the_fix(aws: World) -> None:
    run = start(aws, "no_image")
    assert aws.finished(run) == "FAILURE"
    said = aws.failures(run)
    assert f"failed to resolve ref {ABSENT}" in said
    assert "the image isn't in the registry" in said
    assert "its container never ran, ECS says TaskFailedToStart" in said


def test_a_gpu_without_instances_is_refused_with_the_fix(aws: World) -> None:
    run = start(aws, "no_gpu")
    assert aws.finished(run) == "FAILURE"
    assert "asks for 1 GPU, which Fargate doesn't have" in aws.failures(run)
    assert "BINDERY_ECS_GPU_CAPACITY_PROVIDER" in aws.failures(run)


def test_canceling_ends_the_run_and_its_step(aws: World) -> None:
    run = start(aws, "waits", "patient", 600)
    step = aws.running(run, "patient")
    assert aws.instance.run_launcher.terminate(run)
    assert aws.finished(run, 30) == "CANCELED"
    ended = {task["id"] for task in aws.ecs.started(run=run) if task["status"] == "STOPPED"}
    wait_for(
        lambda: {t["id"] for t in aws.ecs.started(run=run) if t["status"] == "STOPPED"} >= {step},
        20,
        lambda: str(ended),
    )
    assert not aws.instance.run_launcher.terminate(run), "it is over"


def test_a_worker_that_is_killed_is_told_apart_and_its_successor_keeps_the_step(aws: World) -> None:
    from dagster._core.launcher.base import ResumeRunContext

    run = start(aws, "waits", "patient", 12)
    step = aws.running(run, "patient")
    (worker,) = aws.ecs.started(run=run, kind="run")
    launcher = aws.instance.run_launcher
    assert launcher.check_run_worker_health(aws.run(run)).status == WorkerStatus.RUNNING
    aws.ecs.kill(worker["id"])
    wait_for(lambda: launcher.check_run_worker_health(aws.run(run)).status == WorkerStatus.FAILED, 20)
    said = str(launcher.check_run_worker_health(aws.run(run)).msg)
    assert "ended while the run was under way" in said
    assert "SIGKILL" in said
    assert "What to change:" in said
    # As Dagster's monitoring does next.
    launcher.resume_run(ResumeRunContext(dagster_run=aws.run(run), workspace=None, resume_attempt_number=1))
    assert aws.finished(run) == "SUCCESS", aws.log(run)
    assert [task["id"] for task in aws.ecs.started(run=run, step="patient")] == [step], "it went on where it was"


def test_a_run_whose_task_never_came_up_is_failed_with_the_reason(aws: World) -> None:
    aws.ecs.tell("fumble", kind="run", reason="CannotPullContainerError: dial tcp 10.0.0.1:443: i/o timeout")
    run = start(aws, "waits")
    wait_for(lambda: aws.ecs.started(run=run)[0]["status"] == "STOPPED", 20)
    assert aws.run(run).status == DagsterRunStatus.STARTING
    done = sweep(cluster(), aws.instance)
    assert done.failed == [run]
    assert aws.run(run).status == DagsterRunStatus.FAILURE
    said = "\n".join(aws.messages(run))
    assert "ended before the run had started: ECS couldn't start it." in said
    assert "NAT gateway or the VPC endpoints" in said
    assert sweep(cluster(), aws.instance).failed == []


def test_a_task_whose_run_is_over_is_ended_and_those_of_others_are_not(aws: World) -> None:
    run = start(aws, "waits", "patient", 600)
    step = aws.running(run, "patient")
    (worker,) = aws.ecs.started(run=run, kind="run")
    assert sweep(cluster(), aws.instance).ended == [], "it goes on"
    aws.ecs.kill(worker["id"], signal.SIGKILL)
    aws.instance.report_run_failed(aws.run(run))
    # A task in the same cluster that another installation, or a person, has started.
    ecs = aws.ecs.client("ecs")
    network = {"awsvpcConfiguration": {"subnets": [aws.subnet], "securityGroups": [aws.group]}}
    override = {"containerOverrides": [{"name": "main", "command": ["sleep", "600"]}]}
    (other,) = ecs.run_task(
        cluster=PROJECT,
        taskDefinition=f"{PROJECT}-step",
        networkConfiguration=network,
        overrides=override,
        tags=[{"key": "bindery.project", "value": "another"}, {"key": "bindery.run", "value": run}],
    )["tasks"]
    done = sweep(cluster(), aws.instance)
    assert [arn.rpartition("/")[2] for arn in done.ended] == [step]
    wait_for(lambda: aws.ecs.started(run=run, step="patient")[0]["status"] == "STOPPED", 20)
    (still,) = ecs.describe_tasks(cluster=PROJECT, tasks=[other["taskArn"]])["tasks"]
    assert still["lastStatus"] in {"PENDING", "RUNNING"}
    ecs.stop_task(cluster=PROJECT, task=other["taskArn"])


def test_a_hundred_and_twenty_tasks_are_listed_across_pages(aws: World) -> None:
    ecs = aws.ecs.client("ecs")
    ecs.create_cluster(clusterName="elsewhere")
    network = {"awsvpcConfiguration": {"subnets": [aws.subnet], "securityGroups": [aws.group]}}
    override = {"containerOverrides": [{"name": "main", "command": ["sleep", "600"]}]}
    marks = [{"key": "bindery.project", "value": PROJECT}, {"key": "bindery.kind", "value": "step"}]
    arns = []
    for number in range(126):
        told = ecs.run_task(
            cluster="elsewhere" if number < 3 else PROJECT,
            taskDefinition=f"{PROJECT}-step",
            networkConfiguration=network,
            overrides=override,
            startedBy="many",
            tags=marks if number < 123 else [{"key": "bindery.project", "value": "another"}],
        )
        arns.append(told["tasks"][0]["taskArn"])
    assert len(ecs.list_tasks(cluster=PROJECT, startedBy="many")["taskArns"]) == 100, "one page"
    seen = [str(task["taskArn"]) for task in cluster().of_run("many")]
    assert sorted(seen) == sorted(arns[3:123]), "of this cluster and this project, all"
    for arn in arns:
        aws.ecs.kill(arn.rpartition("/")[2])
