"""Outputs: every load's rows as Parquet with a manifest that is right, once, whatever is killed, and never as input."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dagster_project.components import FileSource
from dagster_project.ingest import pipeline
from dagster_project.ingest.errors import CardError, IngestError
from dagster_project.ingest.output.write import write_outputs
from dagster_project.resources import Platform
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads

T = {"name": "t", "columns": {"a": {"type": "bigint"}}, "expect": {"max_quarantined_rate": None}}


class Outputs(Uploads):
    """Uploads whose rows are written to a bucket or a folder."""

    def __init__(self, aws: Moto, settings: Settings, folder: Path, kind: str) -> None:
        super().__init__(aws, settings, "s3://landing/raw")
        self.out = "s3://output/ml" if kind == "bucket" else str(folder / "ml")

    def files(self) -> dict[str, bytes]:
        """Everything that was written, by name below the table's folder."""
        if not self.out.startswith("s3://"):
            root = Path(self.out) / "src__t"
            return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        found = self.s3.list_objects_v2(Bucket="output", Prefix="ml/src__t/").get("Contents", [])
        names = [each["Key"] for each in found]
        return {
            name.removeprefix("ml/src__t/"): self.s3.get_object(Bucket="output", Key=name)["Body"].read()
            for name in names
        }

    def manifest(self, load: int, folder: str = "") -> dict[str, Any]:
        """Read a manifest, and prove everything that it says of files."""
        files = self.files()
        found: dict[str, Any] = json.loads(files[f"{folder}load={load}/_manifest.json"])
        for each in found["files"]:
            body = files[f"{folder}load={load}/{each['path']}"]
            assert (len(body), hashlib.sha256(body).hexdigest()) == (each["bytes"], each["sha256"])
            assert pq.read_metadata(io.BytesIO(body)).num_rows == each["rows"]
        assert sum(each["rows"] for each in found["files"]) == found["rows"]
        return found

    def read(self, load: int, folder: str = "") -> list[dict[str, Any]]:
        """Read a load's rows."""
        files = self.files()
        names = [each["path"] for each in self.manifest(load, folder)["files"]]
        return [
            row for name in names for row in pq.read_table(io.BytesIO(files[f"{folder}load={load}/{name}"])).to_pylist()
        ]

    def card_out(self, stream: dict[str, Any] | None = None, **output: Any) -> Any:
        return self.card(stream or T, output={"path": self.out, **output})


@pytest.fixture(params=["bucket", "folder"])
def world(request: pytest.FixtureRequest, aws: Moto, settings: Settings, tmp_path: Path) -> Outputs:
    return Outputs(aws, settings, tmp_path, request.param)


def test_each_load_that_appends_is_written_once_with_its_manifest(world: Outputs) -> None:
    card = world.card_out()
    etags = []
    for number in (1, 2):
        etags.append(world.put(f"in/t{number}.csv", f"a,b\n{number},x\nbad,y\n"))
        world.run(card)
    before = world.files()
    world.run(card)
    assert world.files() == before
    assert sorted(before) == sorted(
        ["_latest.json", *(f"load={n}/{name}" for n in (1, 2) for name in ("_manifest.json", "part-00000.parquet"))]
    )
    found = world.manifest(2)
    assert (found["content"], found["loads"], found["rows"], found["quarantined"]) == ("load", [2], 1, 1)
    assert [(each["object"], each["etag"]) for each in found["sources"]] == [("s3://uploads/in/t2.csv", etags[1])]
    assert found["schema"] == [
        {"name": "a", "type": "bigint", "parquet": "int64"},
        {"name": "b", "type": "text", "parquet": "string"},
        {"name": "_load_id", "type": "bigint", "parquet": "int64"},
    ]
    assert found["code"] == "test"
    assert found["card"]["version"] == 1
    assert world.read(2) == [{"a": 2, "b": "x", "_load_id": 2}]
    assert json.loads(before["_latest.json"]) == {"load_id": 2, "manifest": "load=2/_manifest.json"}


def test_written_again_the_bytes_are_the_same(world: Outputs) -> None:
    card = world.card_out()
    world.put("in/t.csv", "a,b\n" + "".join(f"{n},text {n}\n" for n in range(5000)))
    world.run(card)
    before = world.files()
    world.rows("with gone as (delete from bindery.outputs returning 1) select count(*) from gone")
    write_outputs(card, world.runtime)
    assert world.files() == before


def test_a_table_that_merges_is_written_whole(world: Outputs) -> None:
    card = world.card_out({**T, "write": "merge", "primary_key": "a"})
    world.put("in/t1.csv", "a,b\n1,x\n2,y\n")
    world.run(card)
    world.put("in/t2.csv", "a,b\n2,z\n")
    world.run(card)
    assert world.manifest(2)["content"] == "table"
    rows = [(row["a"], row["b"]) for row in world.read(2)]
    assert sorted(rows) == [(1, "x"), (2, "z")]
    world.put("in/t3.csv", "a,b\n2,z\n")
    world.run(card)
    assert world.one("select manifest from bindery.outputs where load_id = 3") is None, "nothing changed"


def test_types_survive(world: Outputs) -> None:
    columns = {
        "n": {"type": "numeric"},
        "d": {"type": "date"},
        "t": {"type": "timestamptz"},
        "f": {"type": "double precision"},
        "o": {"type": "boolean"},
        "j": {"type": "jsonb"},
    }
    line = {"n": 123456789.12345, "d": "2026-01-02", "t": "2026-01-02T03:04:05Z", "f": 0.5, "o": True, "j": {"k": [1]}}
    world.put("in/t.jsonl", json.dumps(line) + '\n{"n": 7}\n')
    world.run(world.card_out({**T, "columns": columns}))
    first, second = world.read(1)
    assert (first["n"], first["d"], first["f"], first["o"]) == (Decimal("123456789.12345"), date(2026, 1, 2), 0.5, True)
    assert first["t"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert json.loads(first["j"]) == {"k": [1]}
    assert (second["n"], second["j"]) == (Decimal(7), None)


def test_days_and_hidden_columns(world: Outputs) -> None:
    columns = {"a": {"type": "bigint"}, "mail": {"pii": True}}
    world.put("in/t.csv", "a,mail\n1,x@example.org\n")
    world.run(world.card_out({**T, "columns": columns}, partition="day"))
    day = world.one("select to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD') from bindery.loads")
    assert world.read(1, f"day={day}/") == [{"a": 1, "_load_id": 1}]
    assert world.manifest(1, f"day={day}/")["left_out"] == ["mail"]
    assert b"x@example.org" not in b"".join(world.files().values())


def test_a_replay_says_what_it_replaces(world: Outputs) -> None:
    card = world.card_out()
    world.put("in/t.csv", "a\n1\n")
    world.run(card)
    pipeline.replay_source(card, world.runtime)
    assert world.manifest(2)["replaces"] == [1]


def test_large_loads_have_several_files(world: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.ingest.output import rows, write

    monkeypatch.setattr(rows, "ROWS", 100)
    monkeypatch.setattr(write, "GROUP_ROWS", 200)
    monkeypatch.setattr(write, "PART_ROWS", 400)
    world.put("in/t.csv", "a\n" + "".join(f"{n}\n" for n in range(1001)))
    world.run(world.card_out())
    assert [each["rows"] for each in world.manifest(1)["files"]] == [400, 400, 201]
    assert [row["a"] for row in world.read(1)] == list(range(1001))


DOOMED = """
import os, signal, sys
from dagster_project import warehouse
from dagster_project.ingest.cards import FileSourceCard
from dagster_project.ingest.output.write import write_outputs
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import get_settings

settings = get_settings()
runtime = Runtime(connect=lambda: warehouse.connect(settings, "loader"), landing="x", resolver=None)
runtime.checkpoint = lambda stage: os.kill(os.getpid(), signal.SIGKILL) if stage == sys.argv[2] else None
write_outputs(FileSourceCard.model_validate_json(sys.argv[1]), runtime)
"""


@pytest.mark.parametrize("stage", ["output", "manifest"])
def test_killed_while_writing_nothing_half_is_named_and_the_next_finishes(world: Outputs, stage: str) -> None:
    world.put("in/t.csv", "a\n1\n")
    world.run(world.card(T))
    card = world.card_out()
    words = [sys.executable, "-c", DOOMED, card.model_dump_json(), stage]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ("load=1/_manifest.json" in world.files()) == (stage == "manifest")
    write_outputs(card, world.runtime)
    assert world.read(1) == [{"a": 1, "_load_id": 1}]
    assert [each for each in world.files() if each.endswith(".part")] == []


def test_where_settings_say_the_places_a_loop_is_refused_before_anything_is_read(
    world: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        def resolve_setting(self, name: str) -> str:
            return "s3://uploads/in/out"

        def resolve_secret(self, name: str) -> str:
            raise AssertionError(name)

    world.runtime.resolver = Known()
    world.put("in/t.csv", "a\n1\n")
    card = world.card(T, output={"path": {"setting": "somewhere"}})
    with pytest.raises(CardError, match="lies where the source reads"):
        world.run(card)
    assert world.statuses() == {}


def test_a_place_that_refuses_is_named(world: Outputs) -> None:
    world.put("in/t.csv", "a\n1\n")
    card = world.card(T, output={"path": "s3://no-such-bucket/x"})
    with pytest.raises(IngestError, match=r"output s3://no-such-bucket/x/src__t/load=1/.*no such bucket"):
        world.run(card)
    assert world.rows("select a from raw.src__t") == [(1,)], "what is loaded is loaded"


def test_it_is_the_third_asset_of_the_source(world: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_LANDING_URL", "s3://landing/raw")
    world.put("in/t.csv", "a\n1\n")
    built = FileSource(world.card_out()).definitions()
    definitions = dg.Definitions.merge(built, dg.Definitions(resources={"platform": Platform()}))
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def("src_pipeline_with_scraping").execute_in_process(instance=instance)
        assert done.success
        (event,) = done.asset_materializations_for_node("output__src")
    assert event.asset_key == dg.AssetKey(["output", "src__t"])
    assert event.metadata["rows"].value == 1
    assert world.read(1)[0]["a"] == 1
