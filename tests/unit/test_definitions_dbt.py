"""From dbt's manifest to steps: which nodes run together, and what a broken source stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.dbt_assets.log import Finished, errors_in, read_line, read_results
from dagster_project.dbt_assets.manifest import Manifest, ManifestError, read_manifest
from dagster_project.dbt_assets.ops import dbt_definitions
from dagster_project.dbt_assets.plan import cut
from dagster_project.dbt_assets.program import environment, prepare
from dagster_project.settings import Settings, get_settings


def node(uid: str, depends: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    kind, _, name = uid.rpartition(".")[0].partition(".")[0], "", uid.rpartition(".")[2]
    return {
        "unique_id": uid,
        "resource_type": kind,
        "name": name,
        "alias": name,
        "schema": more.pop("schema", "staging"),
        "original_file_path": f"models/{name}.sql",
        "fqn": ["p", name],
        "depends_on": {"nodes": list(depends)},
        "config": {"materialized": more.pop("materialized", "table"), **more.pop("config", {})},
        **more,
    }


def source(table: str) -> dict[str, Any]:
    made = node(f"source.p.raw.{table}", schema="raw")
    return {**made, "identifier": table, "source_name": "raw"}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    a, b = "source.p.raw.a__x", "source.p.raw.b__y"
    nodes = [
        node("model.p.stg_a", (a,), materialized="view"),
        node("model.p.stg_a2", ("source.p.raw.a__z",)),
        node("model.p.hidden", ("model.p.stg_a",), materialized="ephemeral"),
        node("model.p.stg_b", (b,)),
        node("model.p.both", ("model.p.hidden", "model.p.stg_b"), schema="marts"),
        node("model.p.only_a", ("model.p.hidden",), schema="marts"),
        node("test.p.unique_stg_a", ("model.p.stg_a",), attached_node="model.p.stg_a"),
        node("test.p.warns", ("model.p.both",), attached_node="model.p.both", config={"severity": "WARN"}),
        # Compares only_a with stg_b: neither comes after the other, but `both` depends on stg_b and stg_a only.
        node("test.p.compares", ("model.p.stg_a", "model.p.stg_b"), attached_node="model.p.stg_a"),
        node("test.p.loose", ("model.p.only_a", "model.p.stg_b"), attached_node="model.p.only_a"),
        node("test.p.of_source", (b,), attached_node=None),
    ]
    units = [node("unit_test.p.adds_up", ("model.p.both",))]
    path = tmp_path / "manifest.json"
    path.write_text(
        json.dumps(
            {
                "nodes": {each["unique_id"]: each for each in nodes},
                "sources": {each["unique_id"]: each for each in map(source, ("a__x", "a__z", "b__y"))},
                "unit_tests": {each["unique_id"]: each for each in units},
                "macros": {"x": {"anything": [1]}},
                "groups": {},
            }
        )
    )
    return read_manifest(path)


def test_nodes_with_the_same_sources_are_one_step(manifest: Manifest) -> None:
    steps, _ = cut(manifest)
    assert {step.name: set(step.assets) for step in steps} == {
        "dbt_a": {"model.p.stg_a", "model.p.stg_a2", "model.p.only_a"},
        "dbt_b": {"model.p.stg_b"},
        "dbt_a_b": {"model.p.both"},
    }


def test_tests_run_where_all_that_they_read_is_there(manifest: Manifest) -> None:
    steps, loose = cut(manifest)
    tests = {step.name: {uid: target for uid, (_, target) in step.tests.items()} for step in steps}
    assert tests["dbt_a"] == {"test.p.unique_stg_a": "model.p.stg_a"}
    assert tests["dbt_b"] == {"test.p.of_source": "model.p.stg_b"}
    assert tests["dbt_a_b"] == {
        "test.p.warns": "model.p.both",
        "test.p.compares": "model.p.both",
    }
    assert {uid: target for uid, (_, target) in loose.items()} == {"test.p.loose": "model.p.only_a"}


def test_the_steps_make_a_graph_without_cycles(manifest: Manifest, tmp_path: Path) -> None:
    graph = dg.Definitions.merge(
        dbt_definitions(manifest, tmp_path),
        dg.Definitions(resources={"platform": dg.ResourceDefinition.none_resource()}),
    ).resolve_asset_graph()
    assert graph.get(dg.AssetKey(["marts", "both"])).parent_keys == {
        dg.AssetKey(["staging", "stg_a"]),
        dg.AssetKey(["staging", "stg_b"]),
    }
    checks = {key.name: graph.get(key).blocking for key in graph.asset_check_keys}
    assert checks["unique_stg_a"] is True
    assert not [name for name in checks if "adds_up" in name], "unit tests look at no data"
    assert checks["warns"] is False


def test_our_project_is_cut_by_its_sources() -> None:
    settings = get_settings()
    steps, loose = cut(read_manifest(prepare(settings)))
    assert {frozenset(step.sources) for step in steps} >= {
        frozenset({"gutenberg"}),
        frozenset({"bookshop"}),
        frozenset({"uploads"}),
    }
    assert not loose, "a dbt test that is a step of its own costs a start of dbt"
    # A broken bookshop leaves these alone:
    safe = {node.name for step in steps if "bookshop" not in step.sources for node in step.assets.values()}
    assert {"stg_gutenberg__books", "stg_uploads__ratings", "fct_ratings"} <= safe


def test_a_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="bindery dbt parse"):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match="can't be read"):
        read_manifest(tmp_path / "manifest.json")


def event(name: str, level: str = "info", **data: Any) -> str:
    return json.dumps({"info": {"name": name, "level": level, "msg": data.pop("msg", name)}, "data": data})


def test_the_log_tells_which_node_finished_how() -> None:
    model = event(
        "LogModelResult", status="SELECT 12", execution_time=0.5, node_info={"unique_id": "m", "node_status": "success"}
    )
    assert read_line(model).finished == Finished("m", "success", 0.5, rows=12)
    test = event("LogTestResult", status="fail", num_failures=3, node_info={"unique_id": "t", "node_status": "fail"})
    finished = read_line(test).finished
    assert finished == Finished("t", "fail", failures=3)
    assert not finished.good
    assert read_line("Traceback (most recent call last):").level == "error"
    assert errors_in([model, event("X", "error", msg="broken"), "not json"]) == ["broken", "not json"]


def test_results_are_empty_where_dbt_did_not_come_that_far(tmp_path: Path) -> None:
    assert read_results(tmp_path) == {}


def test_credentials_travel_in_the_environment_of_the_child_alone(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "postgres_transformer_password").write_text("p w:/@%")
    settings = Settings(
        data_dir=tmp_path, database_url="postgresql://admin:x@db.example.org:6543/postgres?sslmode=require"
    )
    made = environment(settings, "other")
    assert made["BINDERY_DBT_HOST"] == "db.example.org"
    assert made["BINDERY_DBT_PORT"] == "6543"
    assert made["BINDERY_DBT_DBNAME"] == "other"
    assert made["BINDERY_DBT_USER"] == "bindery_transformer"
    assert made["DBT_ENV_SECRET_BINDERY_PASSWORD"] == "p w:/@%"  # pragma: allowlist secret
    assert made["PGSSLMODE"] == "require"


def test_parsing_needs_no_database(tmp_path: Path) -> None:
    assert "BINDERY_DBT_HOST" not in environment(Settings(data_dir=tmp_path), None)
