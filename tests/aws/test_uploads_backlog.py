"""A backlog in several steps side by side: each upload once, however many steps, whichever is killed."""

from __future__ import annotations

import json
import threading
from typing import Any

import dagster as dg
import pytest

from dagster_project.components import FileSource
from dagster_project.components.uploads import uploads_sensor
from dagster_project.ingest.errors import TransientSourceError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.inbox.consume import routes_of
from dagster_project.ingest.inbox.reconcile import reconcile
from dagster_project.resources import Platform
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads

T = {"name": "t", "columns": {"a": {"type": "bigint"}}}


@pytest.fixture
def world(aws: Moto, settings: Settings) -> Uploads:
    world = Uploads(aws, settings, "s3://landing/raw")
    for number in range(40):
        world.put(f"in/t{number:02}.csv", f"a\n{number}\n")
    return world


def announce(world: Uploads, card: Any) -> None:
    assert reconcile(routes_of([card], world.runtime)[0], world.runtime)[0] == 40


def loaded(world: Uploads) -> list[int]:
    return [a for (a,) in world.rows("select a from raw.src__t order by a")]


def test_shares_are_landed_at_the_same_time_and_one_load_takes_them(world: Uploads) -> None:
    card = world.card(T, tasks=3)
    announce(world, card)
    meet = threading.Barrier(3, timeout=30)
    failures: list[BaseException] = []

    def share(number: int) -> None:
        from dataclasses import replace

        first = [True]

        def wait(stage: str) -> None:
            if stage == "land" and first.pop() if first else False:
                meet.wait()  # all of them are at it

        try:
            fetch_source(card, replace(world.runtime, checkpoint=wait), lane=(number, 3))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=share, args=[number]) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world.rows("select status, partition, count(*) from bindery.batches group by 1, 2") == [("sealed", "", 3)]
    world.run(card, fetch=False)
    assert loaded(world) == list(range(40))
    assert world.one("select count(*) from bindery.loads") == 1


def test_a_share_waits_for_a_fetch_of_the_whole_and_the_other_way_round(world: Uploads) -> None:
    from dagster_project.ingest.landing.lock import source_lock

    card = world.card(T, tasks=2)
    for held, wanted in ((None, (1, 2)), ("1/2", None), ("1/2", (1, 2))):
        with world.runtime.connect() as connection:
            connection.autocommit = True
            with source_lock(connection, "src", lane=held), pytest.raises(TransientSourceError, match="under way"):
                fetch_source(card, world.runtime, lane=wanted, lock_wait=0)


def test_what_a_killed_share_left_open_is_taken_up_by_the_next_whole_fetch(world: Uploads) -> None:
    card = world.card(T, tasks=4)
    announce(world, card)

    class Killed(BaseException):
        pass

    count = [0]

    def die(stage: str) -> None:
        count[0] += stage == "landed"
        if count[0] == 5:
            raise Killed

    world.runtime.checkpoint = die
    with pytest.raises(Killed):
        fetch_source(card, world.runtime, lane=(2, 4))
    world.runtime.checkpoint = lambda _: None
    assert world.rows("select status, partition, position from bindery.batches") == [("open", "~2/4", 5)]
    world.arrivals(card)
    assert loaded(world) == list(range(40))
    assert world.rows("select distinct status, partition from bindery.batches") == [("sealed", "")]


def test_the_same_share_goes_on_where_it_was_killed(world: Uploads) -> None:
    card = world.card(T, tasks=2)
    announce(world, card)
    for lane in ((1, 2), (2, 2)):
        fetch_source(card, world.runtime, lane=lane)
        fetch_source(card, world.runtime, lane=lane)
    world.run(card, fetch=False)
    assert loaded(world) == list(range(40))


@pytest.mark.parametrize(("per_task", "steps"), [(500, 1), (20, 2), (5, 3)])
def test_the_backlog_decides_how_many_steps_there_are(
    world: Uploads, monkeypatch: pytest.MonkeyPatch, per_task: int, steps: int
) -> None:
    monkeypatch.setenv("BINDERY_LANDING_URL", "s3://landing/raw")
    url = world.queue()
    card = world.card(T, tasks=3, per_task=per_task)
    built = FileSource(card).definitions()
    platform = Platform()
    wanted = {"src_pipeline_with_scraping", "src_backlog"}
    jobs = [job for job in built.jobs or [] if getattr(job, "name", "") in wanted]
    sensor = uploads_sensor([card], jobs, url, wait=0)
    definitions = dg.Definitions.merge(built, dg.Definitions(resources={"platform": platform}, sensors=[sensor]))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"platform": platform}, repository_def=definitions.get_repository_def()
        )
        (request,) = sensor.evaluate_tick(context).run_requests or []
        job = definitions.resolve_job_def(request.job_name or "")
        done = job.execute_in_process(
            instance=instance,
            run_config=request.run_config,
            tags=request.tags,
            asset_selection=request.asset_selection,
        )
        assert done.success
        landed = [
            event.step_key for event in done.get_step_success_events() if str(event.step_key).startswith("landing__")
        ]
    assert len(landed) == steps
    assert loaded(world) == list(range(40))
    assert json.loads(request.tags["bindery/arrivals"]) == 40


@pytest.mark.parametrize("job", ["src_backlog", "__ASSET_JOB"])
def test_a_run_that_somebody_starts_lands_everything_once(
    world: Uploads, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    monkeypatch.setenv("BINDERY_LANDING_URL", "s3://landing/raw")
    card = world.card(T, tasks=3)
    announce(world, card)
    definitions = dg.Definitions.merge(
        FileSource(card).definitions(), dg.Definitions(resources={"platform": Platform()})
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert definitions.resolve_job_def(job).execute_in_process(instance=instance).success
    assert loaded(world) == list(range(40))
    batches = world.one("select count(*) from bindery.batches where position > 0")
    assert batches == (3 if job == "src_backlog" else 1)
