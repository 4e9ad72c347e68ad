"""Objects that can't be read: set aside, mended by a newer observation or a better card, no reason to delete."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dagster_project.cli.main import main
from dagster_project.ingest import pipeline
from dagster_project.ingest.errors import DataRefusedError, UnreadableObjectsError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load import reading
from dagster_project.ingest.load.run import load_source
from dagster_project.settings import Settings
from tests.integration.load_world import World

T: dict[str, Any] = {"name": "t", "primary_key": "id", "write": "merge"}
ROWS = 20_000
WHOLE = gzip.compress(("id,v\n" + "".join(f"{n},{n * 7919}\n" for n in range(ROWS))).encode())
CUT = WHOLE[: len(WHOLE) // 2]
LARGE = gzip.compress(("id,v\n" + "".join(f"{n},{n * 7919:>100}\n" for n in range(80_000))).encode(), 1)
LATE = LARGE[: len(LARGE) * 4 // 5]
"""Damaged behind several chunks."""


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def waiting(world: World) -> int:
    return int(
        world.one(
            "select count(*) from bindery.batches b where status = 'sealed' and not exists "
            "(select from bindery.load_batches l where l.batch_id = b.batch_id)"
        )
    )


def aside(world: World) -> list[tuple[Any, ...]]:
    return world.rows("select code, resolved_by is null from raw._quarantine order by quarantine_id")


@pytest.mark.parametrize("data", [CUT, LATE])
def test_a_truncated_file_does_not_keep_the_others_out(world: World, data: bytes) -> None:
    world.write("t_a.csv.gz", data)
    world.write("t_b.csv", "id,v\n-1,5\n")
    report = world.run(world.card(T))
    assert world.rows("select id, v from raw.src__t") == [(-1, 5)]
    assert aside(world) == [("unreadable_object", True)]
    landed, line, message = world.rows("select landing_id, line, message from raw._quarantine")[0]
    assert "t_a.csv.gz" in line
    assert world.one("select uri from bindery.landed where landing_id = %s", landed) in line
    assert "end too early" in message
    with pytest.raises(UnreadableObjectsError, match=r"(?s)t_a\.csv\.gz.*bindery replay src") as caught:
        report.refuse_unreadable("src")
    assert caught.value.exit_code == 4
    assert waiting(world) == 0


def test_several_that_turn_out_damaged_late_cost_one_new_beginning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HELD", 0)
    for number in range(5):
        world.write(f"t{number}.csv.gz", LATE)
    world.write("t9.csv", "id,v\n-1,5\n")
    report = world.run(world.card(T)).streams["t"]
    assert (report.inserted, report.quarantined, len(report.unreadable)) == (1, 5, 5)
    assert len([event for event in world.seen if "begins anew" in (event.message or "")]) == 1


def test_the_whole_file_in_its_place_loads_by_itself(world: World) -> None:
    world.write("t_a.csv.gz", CUT)
    world.run(world.card(T))
    world.write("t_a.csv.gz", WHOLE)
    report = world.run(world.card(T))
    assert report.streams["t"].inserted == ROWS
    report.refuse_unreadable("src")
    assert aside(world) == [("unreadable_object", False)]


def test_both_waiting_load_together(world: World) -> None:
    card = world.card(T)
    world.write("t_a.csv.gz", CUT)
    fetch_source(card, world.runtime)
    world.write("t_a.csv.gz", WHOLE)
    report = world.run(card)
    report.refuse_unreadable("src")
    assert report.streams["t"].inserted == ROWS


def test_nothing_but_a_damaged_file_is_taken_too(world: World) -> None:
    world.write("t_a.csv.gz", CUT)
    report = world.run(world.card(T))
    assert report.streams["t"].quarantined == 1
    assert waiting(world) == 0
    assert world.run(world.card(T)).load_id is None


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t_a.json", '[{"id": 1}, {"id": 2,', "not a JSON document"),
        ("t_a.json", '[{"id":1,"v":' + "[" * 10_000 + "]" * 10_000 + "}]", "nested too deeply"),
        ("t_a.json", b'[{"id": 1, "v": "\xff\xfe\xfa"}]\xff', ""),
        ("t_a.parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "not a whole Parquet file"),
        ("t_a.xlsx", b"PK\x03\x04garbage" * 10, "t_a.xlsx"),
        ("t_a.zip", b"PK\x03\x04garbage" * 10, "zip data end too early"),
    ],
)
def test_what_is_damaged_in_itself_is_set_aside_alone(world: World, name: str, data: str | bytes, said: str) -> None:
    world.write(name, data)
    world.write("t_b.csv", "id,v\n1,5\n")
    report = world.run(world.card(T)).streams["t"]
    assert report.inserted == 1
    assert report.quarantined >= 1
    assert all(said in why for why in report.unreadable)


def test_what_hits_every_object_is_held_against_the_card(world: World) -> None:
    wrong = world.card({**T, "records": "rows"})
    world.write("t1.json", '{"data": [{"id": 1}]}')
    world.write("t2.json", '{"data": [{"id": 2}]}')
    with pytest.raises(DataRefusedError, match="nothing at `records: rows`") as caught:
        world.run(wrong)
    assert any("bindery state skip src" in note for note in caught.value.__notes__)
    assert waiting(world) == 1
    assert aside(world) == []
    report = world.run(world.card({**T, "records": "data"}))
    assert report.streams["t"].inserted == 2


def test_what_the_card_misreads_beside_others_is_mended_by_a_replay(world: World) -> None:
    world.write("t1.json", '{"data": [{"id": 1}]}')
    world.write("t2.json", '{"rows": [{"id": 2}]}')
    report = world.run(world.card({**T, "records": "data"}))
    assert report.streams["t"].inserted == 1
    assert aside(world) == [("unreadable_object", True)]
    again = pipeline.replay_source(world.card({**T, "records": "data || rows"}), world.runtime).load
    again.refuse_unreadable("src")
    assert world.rows("select id from raw.src__t order by 1") == [(1,), (2,)]
    assert aside(world) == [("unreadable_object", False)]


def test_a_replay_that_still_can_not_read_it_says_so_once(world: World) -> None:
    world.write("t_a.csv.gz", CUT)
    world.write("t_b.csv", "id,v\n1,5\n")
    world.run(world.card(T))
    again = pipeline.replay_source(world.card(T), world.runtime).load
    with pytest.raises(UnreadableObjectsError):
        again.refuse_unreadable("src")
    assert aside(world) == [("unreadable_object", True)]


def test_nothing_is_replaced_by_files_of_which_one_can_not_be_read(world: World) -> None:
    card = world.card({"name": "t", "write": "replace"})
    world.write("t_b.csv", "id,v\n1,5\n2,6\n")
    world.run(card)
    world.write("t_a.csv.gz", CUT)
    world.write("t_b.csv", "id,v\n3,7\n")
    with pytest.raises(DataRefusedError, match="nothing was replaced"):
        world.run(card)
    assert world.rows("select id from raw.src__t order by 1") == [(1,), (2,)]
    world.write("t_a.csv.gz", WHOLE)
    assert world.run(card).streams["t"].inserted == ROWS


def test_nothing_is_deleted_for_an_object_that_can_not_be_read(world: World) -> None:
    card = world.card({**T, "missing": "delete"})
    world.write("t_a.csv.gz", WHOLE)
    world.write("t_b.csv", "id,v\n-1,5\n-2,6\n")
    world.run(card, full_refresh=True)
    world.write("t_a.csv.gz", CUT)
    world.write("t_b.csv", "id,v\n-1,5\n")
    report = world.run(card, full_refresh=True).streams["t"]
    assert report.deleted == 0
    assert any("nothing was deleted" in warning for warning in report.warnings)
    world.write("t_a.csv.gz", WHOLE)
    assert world.run(card, full_refresh=True).streams["t"].deleted == 1


def test_rows_of_a_damaged_file_are_not_loaded_in_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HELD", 1)
    card = world.card({"name": "t"})
    world.write("t_a.csv.gz", LATE)
    fetch_source(card, world.runtime)
    report = load_source(card, world.runtime).streams["t"]
    assert (report.inserted, report.quarantined) == (0, 1)


def test_a_bound_of_refused_rows_counts_objects_apart(world: World) -> None:
    world.write("t_a.csv.gz", CUT)
    world.write("t_b.csv", "id,v\n1,5\n")
    with pytest.raises(DataRefusedError, match="max_quarantined is 0"):
        world.run(world.card({**T, "expect": {"max_quarantined": 0}}))
    assert world.run(world.card(T)).streams["t"].inserted == 1


def test_what_a_load_refuses_for_good_can_be_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = world.card({**T, "expect": {"max_rows": 2}}, {"name": "other"})
    world.write("t1.csv", "id\n1\n2\n3\n")
    world.write("other.csv", "id\n1\n")
    with pytest.raises(DataRefusedError, match="max_rows is 2"):
        world.run(bounded)
    monkeypatch.setattr("dagster_project.settings.get_settings", lambda: world.settings)
    result = CliRunner().invoke(main, ["state", "skip", "src.t", "--yes"])
    assert result.output == "1 batches skipped; `bindery replay src` loads them after all\n"
    report = world.run(bounded)
    assert {name: stream.inserted for name, stream in report.streams.items()} == {"other": 1}
    assert world.run(bounded).load_id is None
    assert world.rows("select error from bindery.loads where error like 'skipped%%'") == [
        ("skipped: bindery state skip src.t",)
    ]
    again = pipeline.replay_source(world.card(T), world.runtime).load
    assert again.streams["t"].inserted == 3
    assert CliRunner().invoke(main, ["state", "skip", "src", "--yes"]).output.startswith("0 batches skipped")


def test_a_step_materialises_what_it_loaded_and_fails_for_what_it_could_not_read(world: World) -> None:
    import dagster as dg

    from dagster_project.components.loading import raw_assets

    class Platform:
        debug_rows = 0
        full_refresh = False

        def runtime(self, **_: Any) -> Any:
            return world.runtime

    world.write("t_a.csv.gz", CUT)
    world.write("t_b.csv", "id,v\n1,5\n")
    card = world.card(T)
    fetch_source(card, world.runtime)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [raw_assets(card)], instance=instance, resources={"platform": Platform()}, raise_on_error=False
        )
        assert [event.asset_key.path for event in result.get_asset_materialization_events() if event.asset_key] == [
            ["raw", "src__t"]
        ]
        (failed,) = result.get_step_failure_events()
        user = failed.step_failure_data.user_failure_data
        assert user is not None
        assert user.metadata["exit_code"].value == 4
        assert "t_a.csv.gz" in (user.description or "")
        assert "The rest is loaded." in (user.description or "")
    assert world.rows("select id from raw.src__t") == [(1,)]
