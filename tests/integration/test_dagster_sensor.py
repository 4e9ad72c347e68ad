"""The sensor of a watched folder: what is new runs once, what failed can be tried again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.components import FileSource
from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.resources import Platform
from dagster_project.settings import Settings

CARD = FileSourceCard.model_validate(
    {
        "source": "letters",
        "path": {"setting": "drop_dir"},
        "settle": 0,
        "streams": [
            {
                "name": "lines",
                "files": ["*.csv"],
                "primary_key": "id",
                "write": "merge",
                "columns": {"id": {"type": "bigint", "required": True}},
                "expect": {"max_quarantined": 0},
            }
        ],
    }
)


class Watched:
    """A folder with its sensor and its job, run here as the daemon would run them."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.folder = settings.drop_path
        self.folder.mkdir(parents=True, exist_ok=True)
        self.instance = instance
        self.platform = Platform()
        built = FileSource(CARD).definitions()
        self.definitions = dg.Definitions.merge(built, dg.Definitions(resources={"platform": self.platform}))
        (self.sensor,) = built.sensors or ()
        self.keys: set[str] = set()

    def write(self, name: str, *lines: str) -> Path:
        path = self.folder / name
        path.write_text("\n".join(["id,text", *lines]) + "\n")
        return path

    def look(self) -> list[str]:
        """One tick; gives the keys that Dagster hasn't run yet."""
        context = dg.build_sensor_context(instance=self.instance, resources={"platform": self.platform})
        data = self.sensor.evaluate_tick(context)
        new = [request.run_key for request in data.run_requests or [] if request.run_key not in self.keys]
        assert all(key is not None for key in new)
        found = [key for key in new if key is not None]
        self.keys.update(found)
        return found

    def run(self) -> bool:
        job = self.definitions.resolve_job_def("letters_pipeline_with_scraping")
        return job.execute_in_process(instance=self.instance, raise_on_error=False).success

    def rows(self) -> list[tuple[int, str]]:
        with self.platform.connect("loader") as connection:
            return connection.execute("select id, text from raw.letters__lines order by id").fetchall()

    def loads(self) -> int:
        with self.platform.connect("loader") as connection:
            row = connection.execute("select count(*) from bindery.loads where status = 'committed'").fetchone()
            return row[0] if row else 0


@pytest.fixture
def watched(settings: Settings) -> Iterator[Watched]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(settings, instance)


def test_a_new_file_runs_once(watched: Watched) -> None:
    assert watched.look() == []
    watched.write("a.csv", "1,one")
    (key,) = watched.look()
    assert key.endswith(":1"), "the first attempt"
    assert watched.look() == [], "announced already"
    assert watched.run()
    assert watched.look() == []
    assert watched.rows() == [(1, "one")]


def test_contents_a_b_a_load_three_times_and_the_same_bytes_once(watched: Watched) -> None:
    for count, text in enumerate(("one", "two", "one"), start=1):
        watched.write("a.csv", f"1,{text}")
        assert len(watched.look()) == 1, f"content {text!r}, number {count}"
        assert watched.run()
        assert watched.rows() == [(1, text)]
        assert watched.loads() == count
    path = watched.write("a.csv", "1,one")
    os.utime(path, (time.time() + 1, time.time() + 1))
    assert watched.look() == [], "the same bytes in succession"


def test_a_failed_load_is_tried_again_when_somebody_touches_the_file(watched: Watched) -> None:
    path = watched.write("a.csv", "1,one")
    assert watched.look()
    assert watched.run()
    path = watched.write("b.csv", "not a number,two")
    assert len(watched.look()) == 1
    assert not watched.run(), "the card refuses any quarantined row"
    assert watched.rows() == [(1, "one")]
    assert watched.look() == [], "it doesn't try for ever"
    os.utime(path, (time.time() + 5, time.time() + 5))
    (key,) = watched.look()
    assert key.startswith("again:")
    assert watched.look() == []
