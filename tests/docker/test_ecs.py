"""A run on an emulated ECS whose tasks are containers: the image for AWS, its size, and what it does with a bucket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.operations.deploy.registry import BUILD
from dagster_project.settings import Settings
from tests.aws.ecs_world import DAGSTER, World, world
from tests.docker.stack import docker
from tests.integration.installation import installation
from tests.run import ROOT

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(900)
MOST_MB = 400
ASSETS = ("landing/bookshop", "raw/bookshop__products")


@pytest.fixture(scope="module")
def image(figures: dict[str, str]) -> Iterator[str]:
    """Dagster's image as `make deploy` builds it, under the name that it has in the registry."""
    words = ["docker", "build", "--quiet", "--target", "aws", "--file", "Dockerfile.dagster", "--tag", DAGSTER, "."]
    for name, value in BUILD.items():
        words += ["--build-arg", f"{name}={value}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    size = int(docker("image", "inspect", "-f", "{{.Size}}", DAGSTER)) / 1e6
    figures["size of Dagster's image for AWS"] = f"{size:.0f} MB"
    yield DAGSTER
    docker("rmi", DAGSTER)


@pytest.fixture(scope="module")
def furnished(
    image: str, server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("ecs")
    with installation(server_settings, admin, tmp_path_factory.mktemp("sources"), "sources") as sources:
        started = sources.bindery("world", "start")
        assert started.returncode == 0, started.stderr
        shown = json.loads((sources.settings.data_dir / "sample" / "world.json").read_text())
        urls = {f"BINDERY_{name.upper()}": str(shown[name]) for name in ("gutenberg_url", "bookshop_url")}
        inside = {
            "BINDERY_DATA_DIR": "/data",
            "BINDERY_DROP_DIR": "/data/drop",
            "DAGSTER_HOME": "/bindery/deploy/instance/ecs",
        }
        with world(server_settings, admin, folder, "engine", backend="engine", inside=inside, more=urls) as made:
            yield made


def test_the_image_is_small(image: str) -> None:
    assert int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6 <= MOST_MB


def test_each_step_is_a_container_of_the_image_that_it_asks_for(
    furnished: World, monkeypatch: pytest.MonkeyPatch, figures: dict[str, str]
) -> None:
    from dagster_project.definitions import bindery

    furnished.enter(monkeypatch)
    job = bindery().resolve_job_def("pipeline_with_scraping")
    run = furnished.launch(job, "dagster_project.definitions", "bindery", assets=ASSETS)
    assert furnished.finished(run, 400) == "SUCCESS", furnished.log(run)[-6000:]
    tasks = furnished.ecs.started(run=run)
    assert [task["tags"].get("bindery.step") for task in tasks] == [None, "landing__bookshop", "raw__bookshop"]
    assert {task["image"] for task in tasks} == {DAGSTER}
    (rows,) = furnished.place.rows("select count(*) from raw.bookshop__products")[0]
    assert rows > 100
    landed = furnished.ecs.client("s3").list_objects_v2(Bucket="shop-landing")["KeyCount"]
    assert landed > 0
    stats = furnished.instance.get_run_stats(run)
    assert stats.end_time is not None
    assert stats.launch_time is not None
    figures["two steps as emulated ECS tasks in containers"] = f"{stats.end_time - stats.launch_time:.1f} s"


def test_a_container_without_enough_memory_is_diagnosed(furnished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.execution.ecs.cluster import Cluster
    from dagster_project.execution.ecs.diagnosis import death_of
    from dagster_project.execution.ecs.tasks import Place
    from dagster_project.settings import get_settings
    from tests.aws.ecs_world import wait_for

    furnished.enter(monkeypatch)
    place = Place.of(get_settings())
    cluster = Cluster.of(place)
    program = "print('filling', flush=True); blocks = [b'x' * 2**20 for _ in range(900)]"
    container = {"name": "main", "command": ["python", "-c", program]}
    arn = cluster.start(
        {
            "cluster": place.cluster,
            "taskDefinition": f"{place.project}-step",
            "networkConfiguration": place.network(),
            "overrides": {"cpu": "256", "memory": "512", "containerOverrides": [container]},
        }
    )
    wait_for(lambda: cluster.describe([arn])[arn]["lastStatus"] == "STOPPED", 60)
    task = cluster.describe([arn])[arn]
    assert death_of(task).out_of_memory, task
    assert cluster.last_lines(task, 5) == ["filling"]
