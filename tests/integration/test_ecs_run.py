"""A whole run on ECS, one task per step, on a machine without Docker and without AWS: processes stand for containers.

Unmodified boto3, Dagster's EcsRunLauncher under ours, our executor, secrets from Secrets Manager, logs in a bucket.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.aws.ecs_probe import ATTRIBUTE, MODULE, OTHER, job
from tests.aws.ecs_world import DAGSTER, PROJECT, World, world

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def furnished(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("ecs")
    with world(server_settings, admin, folder, "ecs_quick") as made:
        yield made


@pytest.fixture(scope="module")
def run(furnished: World) -> str:
    """One run that every test here looks at."""
    made = furnished.launch(job("three"), MODULE, ATTRIBUTE)
    assert furnished.finished(made) == "SUCCESS", furnished.log(made)
    return made


@pytest.fixture
def aws(furnished: World, monkeypatch: pytest.MonkeyPatch) -> World:
    furnished.enter(monkeypatch)
    return furnished


def test_each_step_is_a_task_with_the_size_image_and_tags_it_asks_for(aws: World, run: str) -> None:
    worker, *steps = aws.ecs.started(run=run)
    assert (worker["family"], worker["cpu"], worker["memory"], worker["provider"]) == (
        f"{PROJECT}-run",
        512,
        1024,
        "FARGATE",
    )
    told = {
        task["tags"]["bindery.step"]: (task["family"], task["image"], task["cpu"], task["memory"], task["provider"])
        for task in steps
    }
    assert told.keys() == {"sized", "plain", "custom"}
    assert told["sized"] == (f"{PROJECT}-step", DAGSTER, 2048, 4096, "FARGATE_SPOT")
    # Nothing of the step before is left in these: neither its size, nor its tags.
    assert told["plain"] == (f"{PROJECT}-step", DAGSTER, 1024, 2048, "FARGATE_SPOT")
    family, image, cpu, memory, _ = told["custom"]
    assert (family.startswith(f"{PROJECT}-step-"), image, cpu, memory) == (True, OTHER, 1024, 2048)
    for task in steps:
        tags = task["tags"]
        assert tags["bindery.project"] == PROJECT
        assert (tags["bindery.kind"], tags["bindery.run"], tags["bindery.job"]) == ("step", run, "three")
        assert tags["bindery.compute"] == ("medium" if tags["bindery.step"] == "sized" else "small")
        assert tags["bindery.attempt"] == "0"
    said = "\n".join(aws.messages(run))
    assert "class medium, 2 vCPU, 4 GiB on Fargate" in said
    assert "class small, 1 vCPU, 2 GiB on Fargate (the class asks for 1 vCPU and 1 GiB; rounded up)" in said


def test_no_secret_is_in_what_ecs_is_told_and_overrides_stay_short(aws: World, run: str) -> None:
    requests = aws.ecs.tell("requests")
    assert len(requests) == 4
    text = json.dumps(requests)
    for path in aws.place.settings.secrets_path.glob("postgres_*"):
        assert path.read_text().strip() not in text
    assert max(len(json.dumps(each["overrides"])) for each in requests) < 5000


def test_what_a_step_printed_is_in_the_bucket_of_logs(aws: World, run: str) -> None:
    manager = aws.instance.compute_log_manager
    (key,) = [
        entry.dagster_event.logs_captured_data.file_key
        for entry in aws.instance.all_logs(run)
        if entry.dagster_event is not None
        and entry.dagster_event.event_type_value == "LOGS_CAPTURED"
        and "sized" in (entry.dagster_event.logs_captured_data.step_keys or [])
    ]
    data = manager.get_log_data([run, "compute_logs", key])
    assert data.stdout is not None
    assert b"sized was here" in data.stdout
