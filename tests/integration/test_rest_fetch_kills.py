"""kill -9 of a fetch at any stage: the next one goes on, the log is whole, and no page is asked for a third time."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.integration import doomed, rest_fetcher_process, rest_world
from tests.integration.doomed import Ended
from tests.integration.rest_world import HostileServer, Pages, World, make_card

ROOT = Path(__file__).parents[2]
PAGES = 12


database, world, server = rest_world.database, rest_world.world, rest_world.server


@pytest.fixture
def api() -> Pages:
    return Pages(total=PAGES * 2, size=2)


def fetch_in_process(world: World, server: HostileServer, kill: dict[str, int]) -> Ended:
    card = make_card(server.url, {"cursor": {"field": "updated_at", "param": "updated_since"}})
    request = {
        "dsn": world.settings.dsn("loader").get_secret_value(),
        "landing": str(world.folder / "landing"),
        "card": card.model_dump(mode="json"),
        "kill": kill,
    }
    return doomed.run(rest_fetcher_process.main, request)


@pytest.mark.parametrize("stage", ["fetch", "land", "landed"])
def test_a_fetch_that_is_killed_again_and_again_arrives(world: World, server: HostileServer, stage: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    kills = 0
    for _ in range(3):
        # Not at the first time, which would be the page of the kill before: each kill may cost a page one request.
        ended = fetch_in_process(world, server, {stage: draw.randrange(1, 4)})
        assert (ended.code, ended.told) == (-signal.SIGKILL, f"killed at {stage}\n")
        kills += 1
    ended = fetch_in_process(world, server, {})
    assert (ended.code, ended.told) == (0, "done\n")
    assert world.ids() == list(range(1, PAGES * 2 + 1))
    assert [landed.position for landed in world.landed()] == list(range(PAGES))
    (batch,) = world.batches()
    assert batch.cursor_proposed == {"field": "updated_at", "value": f"2024-01-{PAGES * 2:02d}T00:00:00Z"}
    asked = Counter(server.targets)
    assert len(asked) == PAGES
    assert max(asked.values()) <= (2 if stage == "land" else 1)
    # Bytes whose row was lost are kept once all the same, and no temporary file is left behind by a clean kill.
    kept = [path for path in (world.folder / "landing" / "objects").rglob("*") if path.is_file()]
    assert len(kept) == PAGES
    assert sum(asked.values()) <= PAGES + kills


def test_killed_after_the_last_page_asks_for_nothing_more(world: World, server: HostileServer) -> None:
    ended = fetch_in_process(world, server, {"landed": PAGES - 1})
    assert ended.code == -signal.SIGKILL, ended.told
    assert len(server.asked) == PAGES
    ended = fetch_in_process(world, server, {})
    assert ended.told == "done\n"
    assert len(server.asked) == PAGES
    assert world.ids() == list(range(1, PAGES * 2 + 1))
