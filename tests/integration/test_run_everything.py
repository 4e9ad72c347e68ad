"""The main job from end to end, as a person runs it: with a broken source, and again with nothing in reach.

One installation for the whole module; the tests build on each other in the order in which they stand. More such ways
are in tests/soak/test_soak_graph_*.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.integration.installation import (
    ASSETS,
    Installation,
    assets_of,
    fence_log,
    free_port,
    installation,
    result_of,
)

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(600)


LOADED: dict[str, int] = {}
"""Source -> its load in the first run."""


@pytest.fixture(scope="module")
def place(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("everything")
    with installation(server_settings, admin, folder, "everything", BINDERY_CODE_PORT=str(free_port())) as made:
        yield made


def test_a_broken_source_stops_only_its_own_models(place: Installation) -> None:
    # The world runs, and has no shop there: a failure that asking again doesn't mend.
    assert place.bindery("world", "start").returncode == 0
    world = json.loads((place.settings.data_dir / "sample" / "world.json").read_text())["gutenberg_url"]
    done = place.bindery("run", "--json", BINDERY_BOOKSHOP_URL=f"{world}/no/shop/")
    result = result_of(done)
    assert done.returncode == 3, done.stderr[-3000:]
    states = {key: asset["status"] for key, asset in assets_of(result).items()}
    assert states["landing/bookshop"] == "failed"
    for key in ("raw/gutenberg__books", "staging/stg_gutenberg__books", "marts/fct_ratings", "features/rating_summary"):
        assert states[key] == "done", key
    for key in ("raw/bookshop__products", "staging/stg_bookshop__products", "marts/dim_books", "marts/fct_prices"):
        assert states[key] == "skipped", key
    (failure,) = result["failures"]
    assert failure["step"] == "landing__bookshop"
    assert "404" in failure["message"]
    LOADED.update(place.rows("select source, max(load_id) from bindery.loads group by source"))


def test_the_next_run_goes_on_incrementally_in_reach_of_nothing_else(place: Installation, tmp_path: Path) -> None:
    log = tmp_path / "fence"
    done = place.fenced(log, "run", "--json", REVISION="2")
    result = result_of(done)
    assert done.returncode == 0, (result["failures"], done.stderr[-3000:])
    assert not fence_log(log, "refused"), "something tried to reach another machine"
    guarded = "\n".join(fields[2] for fields in fence_log(log, "guarded"))
    assert "bindery run" in guarded
    assert ".venv-dbt" in guarded, "dbt ran without the guard, so this test has shown nothing about it"

    assets = assets_of(result)
    assert sorted(assets) == ASSETS
    assert {asset["status"] for asset in assets.values()} == {"done"}
    assert not [text for asset in assets.values() for text in asset["failed"]]
    assert sum(asset["passed"] for asset in assets.values()) > 100
    # What the first run loaded is not loaded again: only what the next revision of the world changed.
    news = "select count(*) from raw.{} where _load_id > {}"
    assert 0 < place.one(news.format("gutenberg__books", LOADED["gutenberg"])) < 300
    assert place.one("select count(*) from raw.gutenberg__books where withdrawn") > 0
    ratings = place.one("select count(*) from raw.uploads__ratings")
    assert 0 < place.one(news.format("uploads__ratings", LOADED["uploads"])) < ratings / 2
    assert assets["raw/uploads__ratings"]["rows"] == ratings
    # And what it couldn't reach is there now, with all that hangs on it.
    assert place.one("select count(*) from raw.bookshop__products") > 200
    assert place.one("select count(*) from marts.book_popularity") > 300
