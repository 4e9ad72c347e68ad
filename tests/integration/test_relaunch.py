"""Relaunch if idle: a job that is to keep running is launched when nothing of it runs, and a dead run doesn't count."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster import DagsterRunStatus
from dagster._core.definitions.run_request import SkipReason
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from dagster_project.cli.relaunch import relaunch
from dagster_project.operations.instance import WORKER_TAG, this_worker
from dagster_project.operations.relaunch import (
    KEEP_TAG,
    SILENT_SECONDS,
    UNBORN_SECONDS,
    YOUNG_SECONDS,
    active_run,
    launch_if_idle,
    schedules,
)
from dagster_project.settings import Settings, SettingsError


def later() -> float:
    """Give a time at which the runs of now are old enough to be looked at."""
    return time.time() + YOUNG_SECONDS + 60


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job(tags={KEEP_TAG: "hourly"})
def kept() -> None:
    nothing()


@dg.job
def other() -> None:
    nothing()


ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1), "__repository__"), "kept"
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def made(instance: dg.DagsterInstance, status: DagsterRunStatus, job: Any = kept, **tags: str) -> dg.DagsterRun:
    run: dg.DagsterRun = instance.create_run_for_job(job, status=status, tags=tags, remote_job_origin=ORIGIN)
    return run


class Looking(DefaultRunLauncher):
    """A launcher that can look at workers, and says what a test wants."""

    status: WorkerStatus | None = WorkerStatus.RUNNING

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if self.status is None:
            raise ConnectionError("the engine is away")
        return CheckRunHealthResult(self.status)


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> Looking:
    looking = Looking()
    looking.register_instance(instance)
    instance._run_launcher = looking
    return looking


def tick(instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition) -> Any:
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
    return schedule(context)


def test_tags_and_the_setting_say_which_jobs_keep_running(caplog: pytest.LogCaptureFixture) -> None:
    @dg.job(tags={KEEP_TAG: "now and then"})
    def wrong() -> None:
        nothing()

    defs = dg.Definitions(jobs=[kept, other, wrong])
    assert [(each.job_name, each.cron_schedule) for each in schedules(defs, None)] == [("kept", "0 * * * *")]
    with caplog.at_level(logging.WARNING):
        found = schedules(defs, "other=weekly; kept = 15 2 * * *; gone=daily")
    assert {each.job_name: each.cron_schedule for each in found} == {"kept": "15 2 * * *", "other": "0 0 * * 1"}
    assert all(each.default_status is dg.DefaultScheduleStatus.RUNNING for each in found)
    assert "names the job 'gone'; there are kept, other, wrong" in caplog.text
    with caplog.at_level(logging.WARNING):
        assert {each.job_name for each in schedules(defs, "other=61 * * * *")} == {"kept"}
    assert "other doesn't keep running: " in caplog.text
    assert "wrong: the tag bindery/keep_running is hourly, daily, weekly or cron" in caplog.text


@pytest.mark.parametrize("text", ["kept", "kept=", "kept=sometimes", "=hourly", "kept=hourly,other=hourly"])
def test_a_wrong_setting_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="BINDERY_KEEP_RUNNING"):
        Settings(keep_running=text)


def test_an_idle_job_is_launched_and_one_with_an_active_run_is_not(instance: dg.DagsterInstance) -> None:
    (schedule,) = schedules(dg.Definitions(jobs=[kept, other]), None)
    made(instance, DagsterRunStatus.SUCCESS)
    made(instance, DagsterRunStatus.FAILURE)
    made(instance, DagsterRunStatus.STARTED, other)
    told = tick(instance, schedule)
    assert isinstance(told, dg.RunRequest)
    assert told.tags == {"bindery/relaunched": "true"}
    run = made(instance, DagsterRunStatus.STARTED)
    told = tick(instance, schedule)
    assert isinstance(told, SkipReason)
    assert told.skip_message == f"run {run.run_id} is started"
    instance.report_run_canceled(run)
    assert isinstance(tick(instance, schedule), dg.RunRequest)


@pytest.mark.parametrize(
    "status",
    [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.QUEUED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ],
)
def test_whatever_is_under_way_or_waits_counts(instance: dg.DagsterInstance, status: DagsterRunStatus) -> None:
    run = made(instance, status)
    found = active_run(instance, "kept")
    assert found is not None
    assert found.run_id == run.run_id


def test_a_run_whose_process_is_gone_is_failed_and_does_not_count(instance: dg.DagsterInstance) -> None:
    host = this_worker().partition("/")[0]
    dead = made(instance, DagsterRunStatus.STARTED, **{WORKER_TAG: f"{host}/4000000/1"})
    alive = made(instance, DagsterRunStatus.STARTED, other, **{WORKER_TAG: this_worker()})
    assert active_run(instance, "kept") is not None, "young runs are believed"
    assert active_run(instance, "kept", now=later()) is None
    after = instance.get_run_by_id(dead.run_id)
    assert after is not None
    assert after.status == DagsterRunStatus.FAILURE
    said = [entry.message for entry in instance.all_logs(dead.run_id)]
    assert any(
        "The process that carried it out is gone. It kept its job from being launched again." in each for each in said
    )
    found = active_run(instance, "other", now=later())
    assert found is not None
    assert found.run_id == alive.run_id


@pytest.mark.parametrize("status", [WorkerStatus.FAILED, WorkerStatus.NOT_FOUND, WorkerStatus.SUCCESS])
def test_a_run_whose_worker_is_gone_does_not_count(
    instance: dg.DagsterInstance, launcher: Looking, status: WorkerStatus
) -> None:
    made(instance, DagsterRunStatus.STARTED)
    assert active_run(instance, "kept", now=later()) is not None
    launcher.status = status
    assert active_run(instance, "kept", now=later()) is None


@pytest.mark.parametrize("status", [None, WorkerStatus.UNKNOWN])
def test_a_run_whose_worker_nobody_can_find_counts_until_it_was_silent_for_long(
    instance: dg.DagsterInstance, launcher: Looking, status: WorkerStatus | None
) -> None:
    launcher.status = status
    run = made(instance, DagsterRunStatus.STARTED)
    instance.report_engine_event("something", run)
    assert active_run(instance, "kept", now=later()) is not None
    launcher.status = WorkerStatus.RUNNING
    assert active_run(instance, "kept", now=time.time() + 10 * SILENT_SECONDS) is not None, (
        "silent, but its worker lives"
    )
    launcher.status = status
    assert active_run(instance, "kept", now=time.time() + SILENT_SECONDS + 60) is None


def test_a_run_that_was_never_submitted_does_not_count_for_ever(instance: dg.DagsterInstance) -> None:
    made(instance, DagsterRunStatus.NOT_STARTED)
    assert active_run(instance, "kept", now=later()) is not None
    assert active_run(instance, "kept", now=time.time() + UNBORN_SECONDS + 60) is None


def test_dead_runs_of_more_than_a_page_do_not_hide_a_living_one(
    instance: dg.DagsterInstance, launcher: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_project.operations.relaunch.PAGE", 2)
    alive = made(instance, DagsterRunStatus.QUEUED)
    for _ in range(5):
        made(instance, DagsterRunStatus.STARTED)
    launcher.status = WorkerStatus.FAILED
    found = active_run(instance, "kept", now=later())
    assert found is not None
    assert found.run_id == alive.run_id
    instance.report_run_canceled(alive)
    assert active_run(instance, "kept", now=later()) is None
    counts = [run.status for run in instance.get_runs()]
    assert counts.count(DagsterRunStatus.FAILURE) == 5


def test_a_scheduler_outside_launches_through_the_launcher_and_only_once(
    instance: dg.DagsterInstance, launcher: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[str] = []

    def launch(context: LaunchRunContext) -> None:
        launched.append(context.dagster_run.run_id)

    monkeypatch.setattr(launcher, "launch_run", launch)
    run, now = launch_if_idle(instance, "pipeline")
    assert now
    assert launched == [run]
    assert launch_if_idle(instance, "pipeline") == (run, False)
    with pytest.raises(ValueError, match=r"there is no job 'pipe'; there are .*pipeline_with_scraping"):
        launch_if_idle(instance, "pipe")


def test_the_command_says_who_does_it_on_a_laptop_and_launches_in_a_container(
    instance: dg.DagsterInstance, launcher: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(relaunch, ["pipeline"])
    assert done.exit_code == 1
    assert "On a laptop `bindery dev` launches what BINDERY_KEEP_RUNNING names" in done.output
    monkeypatch.setenv("BINDERY_ENVIRONMENT", "docker")
    monkeypatch.setattr(launcher, "launch_run", lambda _context: None)
    monkeypatch.setattr(dg.DagsterInstance, "get", staticmethod(lambda: contextlib.nullcontext(instance)))
    first, second = (CliRunner().invoke(relaunch, ["pipeline"]) for _ in range(2))
    assert first.output.startswith("launched pipeline: run "), first.output
    assert second.output == first.output.replace("launched pipeline:", "pipeline is under way:")
    wrong = CliRunner().invoke(relaunch, ["pipe"])
    assert wrong.exit_code == 1
    assert "there is no job 'pipe'" in wrong.output
