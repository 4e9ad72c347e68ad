"""The main job from end to end, as a person runs it: sources to marts, again, in debug, and with the daemon.

One installation for the whole module; the tests build on each other in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.integration.installation import Installation, assets_of, graphql, installation, result_of

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(600)

ARRIVES_WITHIN = 60
"""Seconds from a file in the drop folder to its rows in the marts."""
ASSETS = (Path(__file__).parents[1] / "unit" / "asset_keys.txt").read_text().split()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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


def test_the_next_run_goes_on_is_incremental_and_all_green(place: Installation) -> None:
    before = place.content()
    done = place.bindery("run", "--json", REVISION="2")
    result = result_of(done)
    assert done.returncode == 0, (result["failures"], done.stderr[-3000:])
    assets = assets_of(result)
    assert sorted(assets) == ASSETS
    assert {asset["status"] for asset in assets.values()} == {"done"}
    assert not [text for asset in assets.values() for text in asset["failed"]]
    assert sum(asset["passed"] for asset in assets.values()) > 100
    # What the first run loaded is not loaded again: only what the next revision of the world changed.
    books = assets["raw/gutenberg__books"]["counts"]
    assert 0 < books["inserted"] + books["updated"] < 300
    assert place.one("select count(*) from raw.gutenberg__books where withdrawn") > 0
    ratings = assets["raw/uploads__ratings"]["counts"]
    assert 0 < ratings["inserted"] < before["raw.uploads__ratings"][0]
    assert assets["raw/uploads__ratings"]["rows"] == place.one("select count(*) from raw.uploads__ratings")
    # And what it couldn't reach is there now, with all that hangs on it.
    assert assets["raw/bookshop__products"]["counts"]["inserted"] > 200
    assert place.one("select count(*) from marts.book_popularity") > 300
    assert place.content()["marts.fct_ratings"][0] > before["marts.fct_ratings"][0]


def test_a_debug_run_leaves_the_real_database_as_it_is(place: Installation) -> None:
    before = place.content()
    done = place.bindery("run", "--debug", "--limit", "40", "--json", REVISION="2")
    result = result_of(done)
    assert done.returncode == 0, (result["failures"], done.stderr[-3000:])
    assert place.content() == before
    assert result["database"] == place.settings.debug_database
    scratch = place.settings.debug_database
    for table in ("raw.gutenberg__books", "raw.bookshop__products", "raw.uploads__ratings"):
        assert 0 < place.one(f"select count(*) from {table}", scratch) <= 40
    assert place.one("select count(*) from marts.dim_books", scratch) > 0
    rated = place.one("select count(distinct book_id) from marts.fct_ratings", scratch)
    assert place.one("select count(*) from features.rating_summary", scratch) == rated


@pytest.fixture(scope="module")
def ui(place: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """`bindery dev`; gives the port of the UI."""
    port = free_port()
    log = tmp_path_factory.mktemp("dev") / "dev.log"
    process = place.start("dev", "--port", str(port), log=log, REVISION="2")
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                if any(
                    entry["loadStatus"] == "LOADED"
                    for entry in graphql(port, LOCATIONS)["workspaceOrError"]["locationEntries"]
                ):
                    break
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "a child outlived `bindery dev`"


LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }"
NODES = """{ assetNodes {
  assetKey { path } groupName kinds description owners { __typename } isExecutable
  dependencyKeys { path } assetMaterializations(limit: 1) { runId metadataEntries { label __typename } }
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } }
} }"""


def test_the_ui_shows_one_green_graph(place: Installation, ui: int) -> None:
    nodes = {"/".join(node["assetKey"]["path"]): node for node in graphql(ui, NODES)["assetNodes"]}
    assert sorted(nodes) == ASSETS
    for key, node in nodes.items():
        assert node["groupName"], key
        assert node["kinds"], key
        assert node["description"], key
        assert node["owners"], key
        assert node["assetMaterializations"], f"{key} was never materialised as far as the UI knows"
    states = {
        check["executionForLatestMaterialization"]["status"]
        for node in nodes.values()
        for check in node["assetChecksOrError"]["checks"]
        if check["executionForLatestMaterialization"] is not None
    }
    assert "SUCCEEDED" in states
    assert "EXECUTION_FAILED" not in states
    seen, waiting = set(), [next(iter(nodes))]
    neighbours: dict[str, set[str]] = {key: set() for key in nodes}
    for key, node in nodes.items():
        for other in ("/".join(each["path"]) for each in node["dependencyKeys"]):
            neighbours[key].add(other)
            neighbours[other].add(key)
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += neighbours[key]
    assert seen == set(nodes), "the graph is in pieces"
    labels = {entry["label"] for entry in nodes["raw/gutenberg__books"]["assetMaterializations"][0]["metadataEntries"]}
    assert {"rows_read", "unchanged", "rows_per_second", "sample", "rows_per_load", "dagster/row_count"} <= labels


def test_everything_that_moves_it_is_running(ui: int) -> None:
    query = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
      sensors { name sensorState { status } } schedules { name scheduleState { status } } } } }
      instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"""
    deadline = time.monotonic() + 60
    while True:
        data = graphql(ui, query)
        statuses = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        if all(each["healthy"] for each in statuses if each["required"]):
            break
        assert time.monotonic() < deadline, statuses
        time.sleep(1)
    (repository,) = data["repositoriesOrError"]["nodes"]
    states = {each["name"]: each["sensorState"]["status"] for each in repository["sensors"]}
    states |= {each["name"]: each["scheduleState"]["status"] for each in repository["schedules"]}
    assert set(states.values()) == {"RUNNING"}
    assert len(states) == 5


def test_a_dropped_file_is_in_the_marts_within_a_minute(place: Installation, ui: int) -> None:
    book = place.one("select book_id from marts.fct_ratings limit 1")
    raw_book = place.one("select id from raw.gutenberg__books order by id limit 1")
    dropped = place.settings.drop_path / "ratings" / "from-a-person.csv"
    staged = dropped.with_name(".from-a-person.csv")
    with staged.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "book_id", "rating", "rated_at"])
        writer.writerow([987654321, raw_book, 5, "2026-01-02T03:04:05Z"])
    staged.rename(dropped)
    began = time.monotonic()
    while not place.one("select count(*) from marts.fct_ratings where user_id = 987654321"):
        if time.monotonic() - began > ARRIVES_WITHIN:
            runs = graphql(
                ui,
                "{ runsOrError(limit: 5) { ... on Runs { results { jobName status stepStats { stepKey status } } } } }",
            )
            pytest.fail(f"{book}: nothing arrived within {ARRIVES_WITHIN} s; runs: {runs}")
        time.sleep(0.5)
    print(f"\nin the marts after {time.monotonic() - began:.1f} s")
