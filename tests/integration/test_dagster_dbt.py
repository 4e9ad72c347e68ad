"""dbt as Dagster steps, with the real dbt and a real Postgres: materialisations, checks, blocking, retry, subsets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project import warehouse
from dagster_project.dbt_assets.failed import KEPT, CompiledCode
from dagster_project.dbt_assets.load import load_dbt
from dagster_project.dbt_assets.process import preloaded, socket_path
from dagster_project.dbt_assets.program import DbtError, is_current, manifest_path, prepare
from dagster_project.resources import Platform
from dagster_project.settings import Settings, get_settings

PROFILES = Path(__file__).parents[2] / "dbt_project" / "profiles.yml"
FILES = {
    "dbt_project.yml": """
name: small
version: "1.0"
profile: bindery
flags: {send_anonymous_usage_stats: false}
models:
  small:
    staging: {+schema: staging, +materialized: view}
    marts: {+schema: marts, +materialized: table}
""",
    "macros/schemas.sql": "{% macro generate_schema_name(custom, node) %}{{ custom or target.schema }}{% endmacro %}",
    "models/sources.yml": """
sources:
  - {name: raw, schema: raw, tables: [{name: fruit__apples}, {name: nuts__almonds}]}
""",
    "models/staging/stg_fruit__apples.sql": "select id, weight from {{ source('raw', 'fruit__apples') }}",
    "models/staging/stg_fruit__apples.yml": """
models:
  - name: stg_fruit__apples
    description: One row per apple.
    columns:
      - {name: id, data_tests: [unique, {not_null: {config: {severity: warn}}}]}
unit_tests:
  - name: weight_is_kept
    model: stg_fruit__apples
    given: [{input: "source('raw', 'fruit__apples')", rows: [{id: 1, weight: 2}]}]
    expect: {rows: [{id: 1, weight: 2}]}
""",
    "models/staging/stg_nuts__almonds.sql": """
select id, 1 / weight as lightness from {{ source('raw', 'nuts__almonds') }}
""",
    "models/marts/heavy_apples.sql": "select * from {{ ref('stg_fruit__apples') }} where weight > 1",
    "models/marts/almond_table.sql": "select * from {{ ref('stg_nuts__almonds') }}",
    "models/marts/snacks.sql": """
select a.id, l.lightness from {{ ref('heavy_apples') }} a join {{ ref('almond_table') }} l using (id)
""",
}
APPLES, HEAVY = dg.AssetKey(["staging", "stg_fruit__apples"]), dg.AssetKey(["marts", "heavy_apples"])
ALMONDS, ALMOND_TABLE = dg.AssetKey(["staging", "stg_nuts__almonds"]), dg.AssetKey(["marts", "almond_table"])
SNACKS = dg.AssetKey(["marts", "snacks"])


@dataclass
class Kitchen:
    """A small dbt project over two sources, in a database of its own."""

    settings: Settings
    instance: dg.DagsterInstance
    definitions: dg.Definitions

    def sql(self, *statements: str) -> None:
        with warehouse.connect(self.settings, "loader") as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, statement: str) -> Any:
        with warehouse.connect(self.settings, "transformer") as connection:
            row = connection.execute(statement.encode()).fetchone()
            return row and row[0]

    def run(
        self, *keys: dg.AssetKey, after: dg.ExecuteInProcessResult | None = None, resume: bool = False
    ) -> dg.ExecuteInProcessResult:
        tags: dict[str, str] = {}
        if after is not None:
            tags = {"dagster/parent_run_id": after.run_id, "dagster/root_run_id": after.run_id}
        if resume:
            tags["dagster/is_resume_retry"] = "true"
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, raise_on_error=False, tags=tags, asset_selection=list(keys) or None
        )


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "profiles.yml").write_text(PROFILES.read_text())
    return root


@pytest.fixture(scope="session")
def preloaded_dbt(small_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a dbt listens that is imported already, as in `bindery run`."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("preloaded"), dbt_project_dir=small_project)
    with preloaded(settings, None):
        yield socket_path(settings)


@pytest.fixture
def kitchen(
    settings: Settings, small_project: Path, preloaded_dbt: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kitchen]:
    monkeypatch.setenv("BINDERY_DBT_PROJECT_DIR", str(small_project))
    socket_path(settings).parent.mkdir(parents=True)
    socket_path(settings).symlink_to(preloaded_dbt)
    with dg.DagsterInstance.ephemeral() as instance:
        here = get_settings()
        definitions = dg.Definitions.merge(load_dbt(here), dg.Definitions(resources={"platform": Platform()}))
        made = Kitchen(here, instance, definitions)
        made.sql(
            "create table raw.fruit__apples (id bigint, weight bigint)",
            "create table raw.nuts__almonds (id bigint, weight bigint)",
            "insert into raw.fruit__apples values (1, 1), (2, 5)",
            "insert into raw.nuts__almonds values (2, 4)",
        )
        yield made


def built(result: dg.ExecuteInProcessResult) -> set[dg.AssetKey]:
    return {event.asset_key for event in result.get_asset_materialization_events() if event.asset_key is not None}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def told_by(result: dg.ExecuteInProcessResult, step: str) -> tuple[str, int]:
    """What a failed step says, and its exit code."""
    data = result.failure_data_for_node(step)
    assert data is not None
    assert data.user_failure_data is not None
    code = data.user_failure_data.metadata["exit_code"].value
    assert isinstance(code, int)
    return data.user_failure_data.description or "", code


def test_models_become_assets_and_tests_become_checks(kitchen: Kitchen, capfd: pytest.CaptureFixture[str]) -> None:
    result = kitchen.run()
    assert result.success
    assert built(result) == {APPLES, HEAVY, ALMONDS, ALMOND_TABLE, SNACKS}
    assert checks(result) == {
        "unique_stg_fruit__apples_id": True,
        "not_null_stg_fruit__apples_id": True,
    }
    found = {event.asset_key: event.materialization.metadata for event in result.get_asset_materialization_events()}
    assert found[SNACKS]["dagster/row_count"].value == 1
    assert found[SNACKS]["rows_written"].value == 1
    sample = found[SNACKS]["sample"].value
    assert isinstance(sample, str)
    assert "lightness" in sample
    schema = found[SNACKS]["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchemaMetadataValue)
    assert [column.name for column in schema.schema.columns] == ["id", "lightness"]

    # One model chosen, as in the UI: only that is built.
    kitchen.sql("insert into raw.fruit__apples values (3, 9)")
    one = kitchen.run(HEAVY)
    assert one.success
    assert built(one) == {HEAVY}
    assert checks(one) == {}
    assert kitchen.value("select count(*) from marts.heavy_apples") == 2

    password = kitchen.settings.resolve_secret("POSTGRES_TRANSFORMER_PASSWORD").get_secret_value()
    told = "\n".join(str(event) for event in [*result.all_events, *one.all_events])
    out, err = capfd.readouterr()
    assert password not in told + out + err


def test_a_failing_test_blocks_what_is_downstream_and_says_where(kitchen: Kitchen) -> None:
    kitchen.sql("insert into raw.fruit__apples values (2, 7)")
    result = kitchen.run()
    assert not result.success
    assert checks(result)["unique_stg_fruit__apples_id"] is False
    # The other source's models are built; what needs the broken one isn't.
    assert built(result) == {APPLES, ALMONDS, ALMOND_TABLE}
    told, code = told_by(result, "dbt_fruit")
    assert "unique_stg_fruit__apples_id (models/staging/stg_fruit__apples.yml): fail" in told
    assert "heavy_apples" in told
    assert code == 4


def test_a_warning_stops_nothing(kitchen: Kitchen) -> None:
    kitchen.sql("insert into raw.fruit__apples values (null, 7)")
    result = kitchen.run(APPLES, HEAVY)
    assert result.success
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert found["not_null_stg_fruit__apples_id"].passed is False
    assert found["not_null_stg_fruit__apples_id"].severity == dg.AssetCheckSeverity.WARN
    assert HEAVY in built(result)


def test_a_resumed_run_builds_only_what_is_left(kitchen: Kitchen) -> None:
    kitchen.sql("update raw.nuts__almonds set weight = 0")
    first = kitchen.run(ALMONDS, ALMOND_TABLE)
    assert not first.success
    told, code = told_by(first, "dbt_nuts")
    assert "almond_table (models/marts/almond_table.sql): error" in told
    assert "division by zero" in told
    assert code == 5
    assert built(first) == {ALMONDS}, "the view itself was made"

    kitchen.sql("update raw.nuts__almonds set weight = 4")
    # Nothing of the first run is left but the database: the target folder is gone with its process.
    again = kitchen.run(ALMONDS, ALMOND_TABLE, after=first, resume=True)
    assert again.success
    kept = {
        event.asset_key
        for event in again.get_asset_materialization_events()
        if "kept_from_run" in event.materialization.metadata
    }
    assert kept == {ALMONDS}
    assert built(again) == {ALMONDS, ALMOND_TABLE}
    assert kitchen.value("select lightness from marts.almond_table") == 0

    # A run that repeats everything on purpose builds everything, though it has the same root.
    kitchen.sql("update raw.nuts__almonds set weight = 1")
    repeated = kitchen.run(ALMONDS, ALMOND_TABLE, after=first)
    assert repeated.success
    assert not any("kept_from_run" in e.materialization.metadata for e in repeated.get_asset_materialization_events())
    assert kitchen.value("select lightness from marts.almond_table") == 1


def test_a_broken_model_names_itself(kitchen: Kitchen) -> None:
    kitchen.sql("alter table raw.nuts__almonds rename column weight to mass")
    result = kitchen.run(ALMONDS)
    told, code = told_by(result, "dbt_nuts")
    assert "stg_nuts__almonds (models/staging/stg_nuts__almonds.sql): error" in told
    assert 'column "weight" does not exist' in told
    assert code == 5
    (compiled,) = re.findall(r"compiled code at (\S+\.sql)", told)
    assert Path(compiled).is_relative_to(kitchen.settings.data_dir)
    assert "1 / weight as lightness" in Path(compiled).read_text()
    assert not any(event.is_step_up_for_retry for event in result.all_events), "it stays wrong: no retry"


def test_compiled_code_outlives_its_folder_or_goes_to_the_log(tmp_path: Path) -> None:
    made = tmp_path / "bindery-dbt-1" / "run" / "small" / "models" / "a.sql"
    made.parent.mkdir(parents=True)
    made.write_text("select 1")
    said = f"no such column; compiled code at {made}"
    here = CompiledCode(Settings(data_dir=tmp_path / "data", environment="local"), tmp_path / "bindery-dbt-1")
    here.keep()
    for number in range(KEPT + 5):
        (tmp_path / "data" / "dbt" / "failed" / f"old{number}").mkdir()
    here.keep()
    assert len(list((tmp_path / "data" / "dbt" / "failed").iterdir())) == KEPT
    there = CompiledCode(Settings(data_dir=tmp_path / "other", environment="docker"), tmp_path / "bindery-dbt-1")
    there.keep()
    assert there.statement("models/a.sql") == "select 1"
    assert there.statement("models/b.sql") is None
    shutil.rmtree(made.parents[3])
    assert here.statement("models/a.sql") is None
    kept = tmp_path / "data/dbt/failed/bindery-dbt-1/run/small/models/a.sql"
    assert here.told(said) == f"no such column; compiled code at {kept}"
    assert kept.read_text() == "select 1"
    assert there.told(said) == "no such column; its statement is in the step's log"
    assert not (tmp_path / "other").exists()


def test_parallel_runs_do_not_meet(kitchen: Kitchen) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from dagster_project.dbt_assets.invocation import Invocation
    from dagster_project.dbt_assets.manifest import read_manifest
    from dagster_project.dbt_assets.program import work_folder

    manifest = read_manifest(manifest_path(kitchen.settings))

    def build(name: str) -> int:
        with work_folder(kitchen.settings, None) as folder:
            dbt = Invocation(kitchen.settings, None, folder, [manifest.nodes[name]])
            assert {end.status for end in dbt.run()} <= {"success", "pass"}
            return dbt.code

    names = ["model.small.stg_fruit__apples", "model.small.stg_nuts__almonds"]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(build, names)) == [0, 0]


@pytest.mark.timeout(300)
def test_the_manifest_is_made_when_the_project_changes(
    settings: Settings, small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    root = tmp_path / "project"
    shutil.copytree(small_project, root, ignore=shutil.ignore_patterns("target"))
    monkeypatch.setenv("BINDERY_DBT_PROJECT_DIR", str(root))
    here = get_settings()
    assert not is_current(here)
    prepare(here)
    assert is_current(here)
    made = manifest_path(here).stat().st_mtime_ns
    prepare(here)
    assert manifest_path(here).stat().st_mtime_ns == made, "nothing changed, nothing parsed"
    (root / "models" / "marts" / "more.sql").write_text("select 1 as one")
    assert not is_current(here)
    definitions = load_dbt(here)
    keys = {key for each in definitions.assets or [] if isinstance(each, dg.AssetsDefinition) for key in each.keys}
    assert any(key.path[-1] == "more" for key in keys)


@pytest.mark.soak
def test_a_project_that_dbt_refuses_is_served_by_its_last_good_manifest(
    settings: Settings, small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    root = tmp_path / "project"
    shutil.copytree(small_project, root)
    monkeypatch.setenv("BINDERY_DBT_PROJECT_DIR", str(root))
    here = get_settings()
    prepare(here)
    (root / "models" / "marts" / "more.sql").write_text("select {{ ref('nobody') }}")
    assert load_dbt(here).assets
    with pytest.raises(DbtError, match="nobody"):
        prepare(here)


def test_a_missing_program_says_what_to_do(
    settings: Settings, small_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_DBT_PROJECT_DIR", str(small_project))
    monkeypatch.setenv("BINDERY_DBT_EXECUTABLE", "/nowhere/dbt")
    with pytest.raises(DbtError, match=r"make install.*BINDERY_DBT_EXECUTABLE"):
        prepare(get_settings(), force=True)
