"""The sensor of uploads, as the daemon evaluates it: runs are asked for once, and once more where that is wanted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from dagster_project.components import FileSource
from dagster_project.components.uploads import uploads_sensor
from dagster_project.resources import Platform
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads

T = {"name": "t", "columns": {"a": {"type": "bigint"}}, "expect": {"max_quarantined": 0, "max_quarantined_rate": None}}


class Served:
    """A bucket with the sensor that serves it, and the job that it asks for, run here as the daemon would."""

    def __init__(
        self, aws: Moto, settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, queue: bool
    ) -> None:
        self.world = Uploads(aws, settings, "s3://landing/raw")
        monkeypatch.setenv("BINDERY_LANDING_URL", "s3://landing/raw")
        self.instance = instance
        self.url = self.world.queue()
        card = self.world.card(T, reconcile=3600)
        built = FileSource(card).definitions()
        self.platform = Platform()
        jobs = [job for job in built.jobs or [] if getattr(job, "name", "") == "src_pipeline_with_scraping"]
        (own,) = built.sensors or ()
        if queue:
            monkeypatch.setenv("BINDERY_UPLOADS_QUEUE_URL", self.url)
        self.own = own
        self.sensor = uploads_sensor([card], jobs, self.url, wait=0) if queue else own
        self.definitions = dg.Definitions.merge(built, dg.Definitions(resources={"platform": self.platform}))
        self.cursor: str | None = None
        self.keys: set[str] = set()
        self.requests: list[dg.RunRequest] = []

    def look(self) -> list[str]:
        """One tick; gives the keys that Dagster hasn't run yet."""
        context = dg.build_sensor_context(
            instance=self.instance, resources={"platform": self.platform}, cursor=self.cursor
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        self.requests = [each for each in data.run_requests or [] if each.run_key not in self.keys]
        found = [str(each.run_key) for each in self.requests]
        self.keys.update(found)
        return found

    def run(self) -> bool:
        (request,) = self.requests
        job = self.definitions.resolve_job_def(request.job_name or "")
        done = job.execute_in_process(instance=self.instance, run_config=request.run_config, raise_on_error=False)
        return done.success

    def next_list(self) -> None:
        """Let the time of a list come."""
        assert self.cursor is not None
        self.cursor = json.dumps({"src": {**json.loads(self.cursor)["src"], "listed": time.time() - 7200}})

    def rows(self) -> list[tuple[int]]:
        return self.world.rows("select a from raw.src__t order by a")


@pytest.fixture(params=[True, False], ids=["queue", "list"])
def served(
    request: pytest.FixtureRequest, aws: Moto, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Served(aws, settings, instance, monkeypatch, queue=request.param)


def test_an_upload_runs_once_and_a_backlog_in_one_run(served: Served) -> None:
    assert served.look() == []
    for number in range(5):
        served.world.put(f"in/t{number}.csv", f"a\n{number}\n")
    if served.sensor is served.own:
        served.next_list()
    (key,) = served.look()
    assert key.startswith("src:")
    assert key.endswith(":1")
    assert served.look() == [], "asked for already"


def test_the_run_takes_what_waits_and_nothing_is_asked_for_again(served: Served) -> None:
    served.world.put("in/t.csv", "a\n1\n")
    assert len(served.look()) == 1
    assert served.run()
    assert served.rows() == [(1,)]
    served.next_list()
    assert served.look() == []


def test_while_a_run_is_under_way_none_is_asked_for(served: Served) -> None:
    served.world.put("in/t.csv", "a\n1\n")
    job = served.definitions.resolve_job_def("src_pipeline_with_scraping")
    run = served.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert served.look() == []
    served.instance.report_run_failed(run)
    assert len(served.look()) == 1


def test_a_failed_load_is_tried_again_by_and_by_and_not_for_ever(served: Served) -> None:
    served.world.put("in/t.csv", "a\nno number\n")
    assert len(served.look()) == 1
    assert not served.run()
    assert served.look() == [], "not at once"
    tries = 1
    for _ in range(10):
        served.world.rows(
            "with late as (update bindery.landed set observed_at = observed_at - interval '1 day' returning 1) "
            "select count(*) from late"
        )
        served.next_list()
        tries += len(served.look())
    assert tries == 5


def test_a_bucket_that_a_queue_serves_isnt_listed_by_its_own_sensor_too(
    aws: Moto, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        served = Served(aws, settings, instance, monkeypatch, queue=True)
        served.world.put("in/t.csv", "a\n1\n")
        served.sensor = served.own
        assert served.look() == []
        assert served.world.statuses() == {}


def test_the_code_location_has_the_sensor_where_there_is_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.definitions import bindery

    assert not [sensor for sensor in bindery().sensors or [] if sensor.name == "uploads"]
    monkeypatch.setenv("BINDERY_UPLOADS_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/1/uploads")
    (sensor,) = [sensor for sensor in bindery().sensors or [] if sensor.name == "uploads"]
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
