"""Kill -9 at every stage of a load, then run it again: the tables are those of an undisturbed run.

Loads run in processes of their own, which kill themselves at a named stage after leaving a mark, so that it is certain
that the kill landed there.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dagster_project import embedded, warehouse
from dagster_project.ingest.cards import FileSourceCard
from dagster_project.ingest.errors import TransientDatabaseError
from dagster_project.settings import Settings
from tests.integration import doomed
from tests.integration.embedded_places import place
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply
from tests.integration.load_process import main
from tests.integration.load_world import World

ROOT = Path(__file__).parent.parent.parent
STAGES = ("land", "landed", "parse", "copy", "merge", "before_commit", "after_commit")
ROWS = 3000
PAGES = 8


@dataclass(frozen=True)
class Source:
    """Something to load, the same every time."""

    name: str
    card: dict[str, Any]
    stages: tuple[str, ...]


def files(folder: Path) -> Source:
    """Make files with repeated keys, rows that don't fit and a type that widens on the way."""
    generator = random.Random(20)
    folder.mkdir()
    for number in range(3):
        lines = [
            f"{generator.randrange(1500)},{generator.randrange(9)},{'x' if n == 2000 and number == 1 else n}"
            for n in range(ROWS)
        ]
        (folder / f"ratings-{number}.csv").write_text("id,v,w\n" + "\n".join([*lines, ",1,1", "2,many,1"]) + "\n")
        (folder / f"events-{number}.csv").write_text("at,n\n" + "".join(f"2024-01-01,{n}\n" for n in range(500)))
    card = {
        "source": "files",
        "path": str(folder),
        "settle": 0,
        "streams": [
            {
                "name": "ratings",
                "files": ["ratings*"],
                "primary_key": "id",
                "write": "merge",
                "columns": {"v": {"type": "bigint"}},
            },
            {"name": "events", "files": ["events*"]},
        ],
    }
    return Source("files", card, STAGES)


def answer(asked: Asked) -> Reply:
    """Answer a page of records, some of them on two pages."""
    page = asked.page
    numbers = range(page * 25, page * 25 + 30)
    records = [{"id": n % 180, "number": n, "title": f"{n}", "tags": [n], "seen": page} for n in numbers]
    following = f"/records?page={page + 1}" if page < PAGES else None
    return json_reply({"next": following, "results": records})


@pytest.fixture(scope="module")
def api() -> Iterator[Source]:
    with HostileServer(answer) as server:
        stream = {
            "path": "/records",
            "records": "results",
            "paginator": {"type": "json_link", "next_url_path": "next"},
        }
        merged = {"name": "merged", "primary_key": "id", "write": "merge", **stream}
        appended = {"name": "appended", "cursor": {"field": "number"}, **stream}
        card = {"source": "api", "base_url": server.url, "streams": [merged, appended]}
        yield Source("api", card, ("fetch", *STAGES))


def answer_everything(asked: Asked) -> Reply:
    """Answer all records at every request, as an API without any cursor does; of children, those of their parent."""
    _, found, parent = asked.path.partition("/parents/")
    if found:
        return json_reply([{"parent": parent, "number": n} for n in range(3)])
    following = f"{asked.path}?page={asked.page + 1}" if asked.page < 3 else None
    records = [{"id": 5 * asked.page + n, "text": f"{n}"} for n in range(5)]
    return json_reply({"next": following, "results": records})


@pytest.fixture(scope="module")
def everything() -> Iterator[Source]:
    """Streams that append and have no cursor: asking again gives the same rows once more."""
    with HostileServer(answer_everything) as server:
        pages = {"records": "results", "paginator": {"type": "json_link", "next_url_path": "next"}}
        streams = [
            {"name": "appended", "path": "/records", **pages},
            {"name": "parents", "path": "/parents", "primary_key": "id", "write": "merge", **pages},
            {
                "name": "children",
                "path": "/parents/{id}",
                "parent": {"stream": "parents", "field": "id", "placeholder": "id"},
            },
        ]
        card = {"source": "everything", "base_url": server.url, "streams": streams}
        # After the commit a second run is a second run: it appends what the source has by then.
        yield Source("everything", card, ("fetch", *STAGES[:-1]))


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return files(tmp_path / "drop") if request.param == "files" else request.getfixturevalue(request.param)


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


_undisturbed: dict[str, Any] = {}


def content(world: World, source: Source) -> dict[str, Any]:
    """Give all that a run leaves, without numbers and times that differ from run to run."""
    name = source.name
    found: dict[str, Any] = {}
    for stream in source.card["streams"]:
        table = f"raw.{name}__{stream['name']}"
        fields = [field for field in world.types(f"{name}__{stream['name']}") if field != "_load_id"]
        found[table] = world.rows(
            f"select count(*), md5(string_agg(r::text, '|' order by r::text)) from (select {', '.join(fields)} "
            f"from {table}) r"
        )
        found[f"{table} types"] = world.types(f"{name}__{stream['name']}")
    found["quarantine"] = world.rows(
        "select stream, ordinal, record::text, code, message from raw._quarantine order by 1, 2, 3, landing_id"
    )
    found["columns"] = world.rows(
        "select stream, source_name, column_name, data_type from bindery.columns order by stream, position"
    )
    found["state"] = world.rows("select stream, cursor - 'parent_batch' from bindery.state order by stream")
    found["untaken"] = world.rows(
        "select count(*) from bindery.batches b where status <> 'sealed' "
        "or not exists (select from bindery.load_batches t where t.batch_id = b.batch_id)"
    )
    found["taken twice"] = world.rows("select batch_id from bindery.load_batches group by 1 having count(*) > 1")
    return found


def run(source: Source, landing: Path, kill: dict[str, int], **options: Any) -> bool:
    """Run the source in a process that kills itself; tell whether it was killed where it should be.

    Raises:
        AssertionError: It ended in another way.
    """
    mark = landing.parent / "mark"
    mark.unlink(missing_ok=True)
    request = {"card": source.card, "landing": str(landing), "mark": str(mark), "kill": kill, **options}
    ended = doomed.run(main, request)
    if mark.exists():
        assert mark.read_text() in kill
        assert ended.code == -signal.SIGKILL
        return True
    assert ended.code == 0, ended.told[-2000:]
    return False


def undisturbed(world: World, source: Source, tmp_path: Path) -> dict[str, Any]:
    """Give what an undisturbed run leaves; the run happens once per source."""
    if source.name not in _undisturbed:
        main({"card": source.card, "landing": str(tmp_path / "calm")})
        _undisturbed[source.name] = content(world, source)
        world.execute(
            "loader",
            *(f"drop table raw.{source.name}__{stream['name']}" for stream in source.card["streams"]),
            "delete from raw._quarantine",
            *(f"delete from bindery.{t}" for t in ("load_batches", "loads", "landed", "batches", "state", "columns")),
        )
        shutil.rmtree(tmp_path / "calm")
    return dict(_undisturbed[source.name])


LONG = pytest.mark.soak
PAIRS = [
    *(("files", stage) for stage in STAGES),
    *(("api", stage) for stage in ("fetch", "landed")),
    *(("everything", stage) for stage in ("fetch", "merge")),
    *(pytest.param("api", stage, marks=LONG) for stage in STAGES if stage != "landed"),
    *(pytest.param("everything", stage, marks=LONG) for stage in STAGES[:-1] if stage != "merge"),
]


@pytest.mark.parametrize(("source", "stage"), PAIRS, indirect=["source"])
def test_a_run_killed_at_a_stage_is_made_whole_by_the_next(
    world: World, source: Source, stage: str, tmp_path: Path
) -> None:
    want = undisturbed(world, source, tmp_path)
    assert bool(want["quarantine"]) == (source.name == "files")
    times = random.Random(f"{source.name} {stage}").randrange(2)
    if stage in ("before_commit", "after_commit"):
        times = 0
    assert run(source, tmp_path / "landing", {stage: times}), f"not killed at {stage}, time {times}"
    main({"card": source.card, "landing": str(tmp_path / "landing")})
    assert content(world, source) == want


@pytest.mark.parametrize(
    ("source", "seed"),
    [
        pytest.param("files", 11, marks=LONG),
        pytest.param("api", 12, marks=LONG),
        ("everything", 13),
    ],
    indirect=["source"],
)
def test_a_run_killed_again_and_again_is_made_whole_at_last(
    world: World, source: Source, seed: int, tmp_path: Path
) -> None:
    want = undisturbed(world, source, tmp_path)
    generator = random.Random(seed)
    landed: list[str] = []
    # In the order of a run, so that no earlier one finishes what a later one should interrupt.
    for stage in sorted(generator.sample(source.stages, 5), key=source.stages.index):
        times = generator.randrange(2) if stage in ("fetch", "land", "landed") else 0
        if run(source, tmp_path / "landing", {stage: times}):
            landed.append(f"{stage} {times}")
    print(f"seed {seed}: killed at {', '.join(landed)}")
    assert len(landed) >= 4, f"seed {seed} only killed at {landed}"
    main({"card": source.card, "landing": str(tmp_path / "landing")})
    assert content(world, source) == want, f"seed {seed}: {landed}"


@pytest.mark.parametrize("source", ["files"], indirect=True)
@pytest.mark.parametrize(
    ("stage", "times"),
    [
        *(("after_commit", 0), ("merge", 3)),
        *(pytest.param(*at, marks=LONG) for at in (("after_commit", 1), ("parse", 2), ("before_commit", 2))),
    ],
)
def test_a_backfill_killed_between_its_loads_is_made_whole_by_the_next(
    world: World, source: Source, stage: str, times: int, tmp_path: Path
) -> None:
    want = undisturbed(world, source, tmp_path)  # in one load
    assert run(source, tmp_path / "landing", {stage: times}, load_bytes=1)
    # Three batches of each stream, the third of one with the first of the other: five loads.
    done = world.one("select count(*) from bindery.loads where status = 'committed'")
    assert done == (times + 1 if stage == "after_commit" else 2)
    main({"card": source.card, "landing": str(tmp_path / "landing"), "load_bytes": 1})
    assert world.one("select count(*) from bindery.loads where status = 'committed'") == 5
    assert content(world, source) == want


def test_a_server_killed_under_a_load_is_told_in_words_and_the_next_load_goes_on(tmp_path: Path) -> None:
    with place() as data_dir:
        settings = Settings(data_dir=data_dir, environment="test")
        info = embedded.start(settings)
        warehouse.ensure_ready(settings)
        world = World(settings, tmp_path)
        source = files(tmp_path / "drop")

        def crash(stage: str) -> None:
            if stage == "merge":
                world.runtime.checkpoint = lambda _: None
                children = subprocess.run(["pgrep", "-P", str(info.pid)], capture_output=True, text=True, check=False)
                for pid in [info.pid, *map(int, children.stdout.split())]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        card = FileSourceCard.model_validate(source.card)
        world.runtime.checkpoint = crash
        with pytest.raises(TransientDatabaseError, match="connection to Postgres broke off") as caught:
            world.run(card)
        assert caught.value.exit_code == 5
        embedded.start(settings)
        assert world.one("select count(*) from pg_class where relname like 'files\\_\\_%%'") == 0
        report = world.run(card)
        assert report.streams["events"].inserted == 1500
        assert world.one("select count(*) from raw.files__ratings") == report.streams["ratings"].inserted
