"""One pipeline in two places: the whole graph on a laptop and on ECS, one task per step, makes the same tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.aws.ecs_world import DBT, PROJECT, World, world
from tests.integration.installation import Installation, installation
from tests.tables import differences, sums

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(600)
LOCATION = ("dagster_project.definitions", "bindery")
JOB = "pipeline_with_scraping"
GRAPH_S = 400


@pytest.fixture(scope="module")
def laptop(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with installation(server_settings, admin, tmp_path_factory.mktemp("laptop"), "laptop") as place:
        done = place.bindery("run")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield place


@pytest.fixture(scope="module")
def furnished(
    laptop: Installation,
    server_settings: Settings,
    admin: psycopg.Connection[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    shown = json.loads((laptop.settings.data_dir / "sample" / "world.json").read_text())
    sources = {f"BINDERY_{name.upper()}": str(shown[name]) for name in ("gutenberg_url", "bookshop_url")}
    drop = {"BINDERY_DROP_DIR": str(laptop.settings.drop_dir)}
    folder: Path = tmp_path_factory.mktemp("ecs")
    with world(server_settings, admin, folder, "graph", more={**sources, **drop}) as made:
        yield made


def content(place: Installation) -> dict[str, list[int]]:
    with place.connect() as connection:
        return sums(lambda query: connection.execute(query.encode()).fetchall())


def test_the_whole_graph_on_ecs_makes_the_same_tables(
    laptop: Installation, furnished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.definitions import bindery

    furnished.enter(monkeypatch)
    job = bindery().resolve_job_def(JOB)
    run = furnished.launch(job, *LOCATION)
    assert furnished.finished(run, GRAPH_S) == "SUCCESS", furnished.log(run)[-8000:]
    steps = furnished.ecs.started(run=run, kind="step")
    assert sorted(task["tags"]["bindery.step"] for task in steps) == sorted(node.name for node in job.nodes)
    for task in steps:
        dbt = task["tags"]["bindery.step"].startswith("dbt")
        assert task["family"] == f"{PROJECT}-step-dbt" if dbt else f"{PROJECT}-step"
        assert (task["image"] == DBT) is dbt
    overrides = [json.dumps(each["overrides"]) for each in furnished.ecs.tell("requests")]
    assert max(map(len, overrides)) < 6000, "ECS takes 8192 characters"
    there, here = content(furnished.place), content(laptop)
    assert differences(here, there) == []
    assert here["marts.fct_ratings"][0] > 1000
