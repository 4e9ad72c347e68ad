"""The code location as the gRPC server loads it: what is in it, and that it hangs together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import initialize_repository_def_from_pointer
from dagster._core.remote_representation.external_data import RepositorySnap

from dagster_project.components import naming
from dagster_project.definitions import ROOT

ASSET_KEYS = Path(__file__).parent / "asset_keys.txt"


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    pointer = ModuleCodePointer("dagster_project.definitions", "bindery", working_directory=str(ROOT.parent))
    return initialize_repository_def_from_pointer(pointer)


@pytest.fixture
def specs(repository: dg.RepositoryDefinition) -> dict[dg.AssetKey, dg.AssetSpec]:
    return {key: repository.asset_graph.get(key).to_asset_spec() for key in repository.asset_graph.get_all_asset_keys()}


def test_asset_keys_are_those_that_people_and_other_systems_know(repository: dg.RepositoryDefinition) -> None:
    keys = sorted(key.to_user_string() for key in repository.asset_graph.get_all_asset_keys())
    assert keys == ASSET_KEYS.read_text().split(), (
        "asset keys changed: history, schedules and dashboards hang on them. If that is meant, write the new ones to "
        f"{ASSET_KEYS}"
    )


def test_every_asset_says_whose_and_what_it_is(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        name = key.to_user_string()
        assert node.group_name not in {None, "default"}, name
        assert node.owners, name
        assert node.kinds, name
        assert node.description, name
        assert len(node.description) > 15, name


def test_groups_follow_sources_and_layers(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert groups["landing/gutenberg"] == groups["raw/gutenberg__books"] == groups["staging/stg_gutenberg__books"]
    assert groups["marts/dim_books"] == "marts"
    assert groups["features/rating_summary"] == "features"


def test_the_graph_is_one(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    keys = set(graph.get_all_asset_keys())
    seen: set[dg.AssetKey] = set()
    waiting = [dg.AssetKey(["landing", "gutenberg"])]
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += [*graph.get(key).parent_keys, *graph.get(key).child_keys]
    assert seen == keys
    sources = {key for key in keys if not graph.get(key).parent_keys}
    assert {key.path[0] for key in sources} == {"landing"}, "only landing assets have nothing before them"


def test_every_asset_is_made_here(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    assert all(graph.get(key).is_executable for key in graph.get_all_asset_keys())


def test_what_moves_the_platform_runs_without_a_click(repository: dg.RepositoryDefinition) -> None:
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    assert set(sensors) == {"alerts", "default_automation_condition_sensor", "uploads_arrivals"}
    assert all(sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in sensors.values())
    assert (sensors["uploads_arrivals"].minimum_interval_seconds or 60) <= 10
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    assert set(schedules) == {
        "gutenberg_schedule",
        "bookshop_schedule",
        "uploads_schedule",
        "remove_old_runs_schedule",
    }
    assert all(schedule.default_status == dg.DefaultScheduleStatus.RUNNING for schedule in schedules.values())
    assert {schedules[f"{name}_schedule"].job_name for name in ("gutenberg", "bookshop", "uploads")} == {
        naming.fetch_job(name) for name in ("gutenberg", "bookshop", "uploads")
    }


def test_a_schedule_follows_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_GUTENBERG_SCHEDULE", "17 5 * * *")
    pointer = ModuleCodePointer("dagster_project.definitions", "bindery", working_directory=str(ROOT.parent))
    repository = initialize_repository_def_from_pointer(pointer)
    assert repository.get_schedule_def("gutenberg_schedule").cron_schedule == "17 5 * * *"


def test_a_source_s_job_covers_everything_downstream(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    job = repository.get_job("uploads_pipeline_with_scraping")
    covered = {
        key.to_user_string() for key in job.asset_layer.executable_asset_keys if key in graph.get_all_asset_keys()
    }
    assert {"landing/uploads", "raw/uploads__ratings", "staging/stg_uploads__ratings", "marts/fct_ratings"} <= covered
    assert "features/rating_summary" in covered
    assert not {name for name in covered if "bookshop" in name or name.startswith("raw/gutenberg")}
    load_only = repository.get_job("uploads_pipeline")
    assert {key.path[0] for key in load_only.asset_layer.executable_asset_keys} == {
        key.split("/")[0] for key in covered
    } - {"landing"}


def test_marts_have_a_freshness_policy(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    marts = [key for key in graph.get_all_asset_keys() if key.path[0] == "marts"]
    assert marts
    assert all(graph.get(key).freshness_policy is not None for key in marts)


def test_the_server_can_tell_it_to_the_webserver(repository: dg.RepositoryDefinition) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Dagster reads a property of its own that it deprecates
        snap = RepositorySnap.from_def(repository)
    assert {node.asset_key for node in snap.asset_nodes} == set(repository.asset_graph.get_all_asset_keys())
    checks = {check.key for check in snap.asset_check_nodes or []}
    assert checks == set(repository.asset_graph.asset_check_keys)
    assert len(checks) > 100


def _columns(spec: dg.AssetSpec) -> Iterator[str]:
    schema = spec.metadata.get("dagster/column_schema")
    if isinstance(schema, dg.TableSchema):
        yield from (column.name for column in schema.columns)


def test_columns_are_described_before_anything_ran(specs: dict[dg.AssetKey, dg.AssetSpec]) -> None:
    assert "title" in set(_columns(specs[dg.AssetKey(["raw", "gutenberg__books"])]))
    assert "book_id" in set(_columns(specs[dg.AssetKey(["marts", "fct_ratings"])]))


def test_an_asset_points_to_its_card(specs: dict[dg.AssetKey, dg.AssetSpec]) -> None:
    metadata = specs[dg.AssetKey(["raw", "bookshop__products"])].metadata["dagster/code_references"]
    assert isinstance(metadata, dg.CodeReferencesMetadataValue)
    paths = [ref.file_path for ref in metadata.code_references if isinstance(ref, dg.LocalFileCodeReference)]
    assert any(path.endswith("defs/bookshop/defs.yaml") for path in paths)
