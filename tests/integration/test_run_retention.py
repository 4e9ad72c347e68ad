"""Old runs go, with their events and output; what assets show, and what must not be asked again, stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.storage.compute_log_manager import ComputeIOType

from dagster_project.cli import retention as command
from dagster_project.operations import run_retention
from dagster_project.operations.housekeeping import housekeeping
from dagster_project.operations.run_retention import AGAIN, remove_old_runs
from dagster_project.settings import use_settings

LATER = datetime.now(UTC) + timedelta(days=91)
KEEP = timedelta(days=90)


@dg.asset
def table() -> None:
    """A table."""


@dg.asset
def other() -> None:
    """Another."""


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job
def empty() -> None:
    nothing()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def materialize(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition) -> str:
    return dg.materialize(list(assets), instance=instance).run_id


def ids(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_old_runs_go_and_what_assets_show_stays(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_retention, "PAGE", 2)
    first = materialize(instance, table, other)
    second = materialize(instance, table)
    third = materialize(instance, table)
    plain = [empty.execute_in_process(instance=instance).run_id for _ in range(5)]
    asked = empty.execute_in_process(instance=instance, tags={AGAIN: "true"}).run_id
    going = instance.create_run_for_job(empty, status=dg.DagsterRunStatus.STARTED).run_id
    everything = ids(instance)
    assert remove_old_runs(instance, KEEP).runs == 0, "none is old yet"
    would = remove_old_runs(instance, KEEP, dry_run=True, now=LATER)
    assert (would.runs, would.kept, ids(instance)) == (6, 3, everything)
    done = remove_old_runs(instance, KEEP, now=LATER)
    assert (done.runs, done.kept) == (6, 3)
    assert ids(instance) == {first, third, asked, going}
    assert not instance.all_logs(second)
    assert not any(instance.all_logs(run) for run in plain)
    for asset, run in ((table, third), (other, first)):
        newest = instance.get_latest_materialization_event(asset.key)
        assert newest is not None
        assert newest.run_id == run
    assert remove_old_runs(instance, KEEP, now=LATER).runs == 0


def test_the_output_of_a_run_goes_with_it(instance: dg.DagsterInstance) -> None:
    run = empty.execute_in_process(instance=instance).run_id
    with instance.compute_log_manager.open_log_stream([run, "compute_logs", "x"], ComputeIOType.STDOUT) as out:
        assert out is not None
        out.write("said")  # type: ignore[call-overload]
    kept = [path for path in Path(instance.root_directory).rglob("*") if run in path.parts]
    assert kept
    remove_old_runs(instance, KEEP, now=LATER)
    assert not [path for path in kept if path.exists()]


def test_the_command(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    empty.execute_in_process(instance=instance)
    monkeypatch.setenv("BINDERY_ENVIRONMENT", "docker")
    monkeypatch.setattr(dg.DagsterInstance, "get", staticmethod(lambda: instance))
    told = CliRunner().invoke(command.retention, ["--dry-run"], catch_exceptions=False)
    assert told.output == "would remove 0 runs older than 90d\n"
    wrong = CliRunner().invoke(command.retention, ["--keep", "long"])
    assert (wrong.exit_code, "30s or 90d" in wrong.output) == (2, True)


def test_the_nightly_job_removes_what_is_older_than_the_setting(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [empty.execute_in_process(instance=instance).run_id for _ in range(2)]
    monkeypatch.setenv("BINDERY_KEEP_RUNS", "1h")
    done = housekeeping.execute_in_process(instance=instance)
    assert done.success
    assert set(old) < ids(instance), "none is old yet"
    monkeypatch.setenv("BINDERY_KEEP_RUNS", "1s")
    use_settings(None)
    time.sleep(1.1)
    done = housekeeping.execute_in_process(instance=instance)
    assert ids(instance) == {done.run_id}, "all that had ended, and not the one that does it"
