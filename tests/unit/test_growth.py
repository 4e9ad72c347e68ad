"""The simulation behind docs/growth.md: no file is lost, settings do what the page says, the page is current."""

from __future__ import annotations

import pytest

from benchmarks.growth import CASES, DAY, Model, arrivals, shown, simulate
from tests.run import ROOT


@pytest.mark.parametrize("files", [0, 1, 10, 1000])
def test_no_file_is_lost_or_loaded_before_it_came(files: int) -> None:
    model = Model(files=files)
    assert len(arrivals(model)) == files
    assert all(0 <= at < DAY for at in arrivals(model))
    day = simulate(model)
    assert day.left <= files
    # Two tasks start one after the other, and both steps do something.
    assert day.median_wait >= (3 * model.start if day.runs else 0)
    assert (day.runs > 0) is (files > 0)


def test_one_run_takes_what_waits() -> None:
    slow = simulate(Model(files=1000, look=3600))
    assert slow.runs <= 24
    assert slow.most_waiting > simulate(Model(files=1000)).most_waiting
    assert slow.usd < simulate(Model(files=1000)).usd / 3


def test_more_steps_shorten_the_wait_for_many_files_alone() -> None:
    many = [simulate(Model(files=50_000, tasks=tasks)).median_wait for tasks in (1, 8)]
    assert many[1] < many[0] * 0.8
    few = [simulate(Model(files=100, tasks=tasks)).median_wait for tasks in (1, 8)]
    assert few[0] == few[1]
    assert 3 < simulate(Model(files=50_000, tasks=8)).most_tasks <= 9


def test_a_minute_is_paid_for_the_shortest_step() -> None:
    one = simulate(Model(files=1, step_seconds=0, land_seconds=0, load_seconds=0, dbt_seconds=0, pull=0, start=0))
    assert one.runs == 1
    # Four steps of a minute; the run itself took no time.
    assert one.usd == pytest.approx(4 * 60 / 3600 * (0.04048 + 2 * 0.004445) * 0.32)


def test_the_page_shows_what_the_program_says() -> None:
    page = (ROOT / "docs" / "growth.md").read_text(encoding="utf-8")
    assert f"<!-- simulation -->\n{shown()}\n<!-- end of simulation -->" in page
    assert len(CASES) == 6
