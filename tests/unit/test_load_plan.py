"""How waiting batches are shared out among loads."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dagster_project.ingest.landing.model import Batch
from dagster_project.ingest.load.batches import Work
from dagster_project.ingest.load.plan import next_load
from dagster_project.ingest.load.report import LoadReport, StreamLoad


def batch(number: int, stream: str = "s") -> Batch:
    return Batch(number, "src", stream, "", "sealed", "f", position=1)


class Sizes:
    """A session that knows the sizes of batches."""

    def __init__(self, sizes: dict[int, int]) -> None:
        self.sizes = sizes

    def all(self, _statement: str, values: Any) -> list[tuple[int, int]]:
        return [(number, self.sizes[number]) for number in values[0] if number in self.sizes]


def shares(works: dict[str, Work], most: int, sizes: dict[int, int]) -> list[dict[str, list[int]]]:
    """Take shares until nothing is left, as loads in succession do."""
    found = []
    while True:
        taken = next_load(cast(Any, Sizes(sizes)), works, most)
        found.append({name: [b.batch_id for b in work.batches] for name, work in taken.items()})
        if not any(work.more for work in taken.values()):
            return found
        gone = {b.batch_id for work in taken.values() for b in work.batches}
        works = {
            name: Work([b for b in w.batches if b.batch_id not in gone], [b for b in w.read if b.batch_id not in gone])
            for name, w in works.items()
        }


def all_of(*numbers: int, stream: str = "s") -> Work:
    batches = [batch(number, stream) for number in numbers]
    return Work(batches, list(batches))


@pytest.mark.parametrize(
    ("most", "want"),
    [(0, [[1], [2], [3], [4]]), (9, [[1], [2], [3], [4]]), (10, [[1, 2], [3, 4]]), (1000, [[1, 2, 3, 4]])],
)
def test_batches_go_together_up_to_the_bound(most: int, want: list[list[int]]) -> None:
    found = shares({"s": all_of(1, 2, 3, 4)}, most, dict.fromkeys(range(5), 5))
    assert [share["s"] for share in found] == want


def test_a_batch_larger_than_the_bound_is_a_load_by_itself() -> None:
    found = shares({"s": all_of(1, 2, 3)}, 10, {1: 1, 2: 100, 3: 1})
    assert [share["s"] for share in found] == [[1], [2], [3]]


def test_what_one_fetch_landed_stays_together() -> None:
    works = {"p": all_of(1, 4, 6, stream="p"), "c": all_of(2, 5, 7, stream="c"), "late": all_of(3, stream="late")}
    assert shares(works, 1, dict.fromkeys(range(9), 5)) == [
        {"p": [1], "c": [2], "late": [3]},
        {"p": [4], "c": [5], "late": []},
        {"p": [6], "c": [7], "late": []},
    ]


def test_batches_that_arent_read_go_with_the_one_after_them() -> None:
    work = all_of(1, 2, 3, 4, 5)
    work.read = [work.batches[1], work.batches[3]]
    assert [share["s"] for share in shares({"s": work}, 1, {2: 5, 4: 5})] == [[1, 2], [3, 4, 5]]


def test_nothing_to_read_is_one_load() -> None:
    assert shares({"s": Work([batch(1)], []), "t": all_of(2, 3, stream="t")}, 1, {2: 5, 3: 5})[0]["s"] == [1]
    assert shares({"s": Work([], [])}, 1, {}) == [{"s": []}]


def test_reports_add_up() -> None:
    first = StreamLoad("raw.t", rows_read=3, inserted=2, quarantined=1, seconds=1.0, stages={"read": 1.0})
    first.codes, first.widened, first.warnings = {"ragged_row": 1}, {"a": "bigint -> numeric"}, ["w"]
    later = StreamLoad("raw.t", rows_read=4, inserted=4, seconds=1.0, stages={"read": 2.0}, new_columns=["c"])
    later.codes, later.widened, later.warnings = {"nul": 2}, {"a": "numeric -> text", "b": "date -> text"}, ["w", "x"]
    report = LoadReport(None)
    report.add(LoadReport(7, {"t": first}, 1.0))
    report.add(LoadReport(None, {}, 0.5))
    report.add(LoadReport(8, {"t": later, "u": StreamLoad("raw.u", inserted=1)}, 1.0))
    assert (report.load_id, report.load_ids, report.seconds) == (8, [7, 8], 2.5)
    total = report.streams["t"]
    assert (total.rows_read, total.inserted, total.quarantined, total.rows_per_second) == (7, 6, 1, 3.5)
    assert total.stages == {"read": 3.0}
    assert total.codes == {"ragged_row": 1, "nul": 2}
    assert total.widened == {"a": "bigint -> text", "b": "date -> text"}
    assert (total.new_columns, total.warnings) == (["c"], ["w", "x"])
    assert [part.rows_read for part in total.parts] == [3, 4]
    assert report.to_metadata()["load_ids"] == [7, 8]
    assert "parts" not in report.to_metadata()["streams"]["t"]
