"""A new installation starts by itself, and nothing runs beside its first run that needs what it makes."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.run_request import SkipReason

from dagster_project.components.automation import FIRST_RUN_SECONDS, SENSOR_SECONDS, waits_for_first_run
from dagster_project.components.naming import FIRST_RUN
from dagster_project.operations.first_run import RUN_KEY, first_run


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job
def everything() -> None:
    nothing()


@pytest.fixture
def repository() -> dg.RepositoryDefinition:
    return dg.Definitions(jobs=[everything], sensors=[first_run("everything")]).get_repository_def()


def look(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, cursor: str | None
) -> tuple[bool, str | None]:
    context = dg.build_sensor_context(instance=instance, repository_def=repository, cursor=cursor)
    return waits_for_first_run(context), context.cursor


def test_the_first_run_is_asked_for_once(repository: dg.RepositoryDefinition) -> None:
    sensor = repository.get_sensor_def(FIRST_RUN)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    context = dg.build_sensor_context()
    launched = sensor(context)
    assert isinstance(launched, dg.RunRequest)
    assert (launched.run_key, context.cursor) == (RUN_KEY, RUN_KEY)
    assert isinstance(sensor(dg.build_sensor_context(cursor=context.cursor)), SkipReason)


def test_a_folder_waits_until_the_first_run_is_over(repository: dg.RepositoryDefinition) -> None:
    tags = {"dagster/sensor_name": FIRST_RUN}
    with dg.DagsterInstance.ephemeral() as instance:
        waits, cursor = look(instance, repository, None)
        assert waits
        run = instance.create_run_for_job(everything, tags=tags, status=dg.DagsterRunStatus.STARTED)
        waits, cursor = look(instance, repository, cursor)
        assert waits
        assert look(instance, repository, "1000")[0], "a long first run is waited for"
        instance.report_run_failed(run)
        waits, cursor = look(instance, repository, cursor)
        assert (waits, cursor) == (False, "settled")
        instance.create_run_for_job(everything, tags=tags, status=dg.DagsterRunStatus.STARTED)
        assert look(instance, repository, cursor) == (False, "settled")


def test_where_no_first_run_comes_nothing_waits_for_long(repository: dg.RepositoryDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        cursor, looks = None, 0
        while (answer := look(instance, repository, cursor))[0]:
            cursor, looks = answer[1], looks + 1
        assert looks == FIRST_RUN_SECONDS // SENSOR_SECONDS - 1


def test_on_a_laptop_nothing_waits() -> None:
    other = dg.Definitions(jobs=[everything]).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(instance, other, None) == look(instance, None, None) == (False, None)
