"""The whole graph disturbed and looked at: interrupted, in debug, and with the daemon that moves it by itself.

One installation for the whole module, filled by one run; the tests stand in an order that leaves it whole.
"""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.integration.installation import (
    ASSETS,
    Installation,
    free_port,
    graphql,
    installation,
    last_status,
    nothing_is_left,
    result_of,
    wait_until,
)

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(600)

ARRIVES_WITHIN = 60
"""Seconds from a file in the drop folder to its rows in the marts."""
ENDS_WITHIN = 20
"""Seconds from a signal to the end of a run; a few on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def place(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("disturbed")
    with installation(server_settings, admin, folder, "disturbed", BINDERY_CODE_PORT=str(free_port())) as made:
        done = made.bindery("run")
        assert done.returncode == 0, done.stdout[-3000:]
        yield made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_soon_and_says_so(place: Installation, number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = place.start("run", log=log, REVISION="2")
    wait_until(lambda: "✓" in log.read_text(), process, log)
    began = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal's Ctrl-C reaches all that is in the foreground
    else:
        process.send_signal(number)
    code = process.wait(60)
    seconds, told = time.monotonic() - began, log.read_text()
    assert code == 130, told
    assert seconds < ENDS_WITHIN, told
    assert [line for line in told.splitlines() if "interrupt" in line.lower()] == ["interrupted"], told
    assert "Run again to go on" in told
    assert "Traceback" not in told
    assert last_status(place) == "CANCELED"
    nothing_is_left(process)


def test_a_run_killed_in_the_middle_of_a_load_says_nothing_more(place: Installation, tmp_path: Path) -> None:
    log = tmp_path / "log"
    waiting = (
        "select count(*) from pg_stat_activity where usename = 'bindery_loader' and wait_event_type = 'Lock' "
        f"and datname = '{place.settings.database_name}'"
    )
    # A load writes its log last: held up there it has written its rows, and not committed them.
    with place.connect() as holder, holder.transaction():
        holder.execute("lock table bindery.load_streams in share row exclusive mode")
        process = place.start("run", log=log, REVISION="2")
        wait_until(lambda: place.one(waiting, "postgres") > 0, process, log)
        # The process of the run alone: its steps are orphans now, and go on with what they do.
        process.kill()
        process.wait()
    assert last_status(place) == "STARTED", "only the next run can tell"


def test_what_was_interrupted_and_killed_goes_on(place: Installation) -> None:
    done = place.bindery("run", "--json", REVISION="2")
    result = result_of(done)
    assert done.returncode == 0, (result["failures"], done.stderr[-3000:])
    assert len(result["recovered_runs"]) == 1
    assert place.one("select status from runs order by id desc offset 1 limit 1", place.settings.dagster_database) == (
        "FAILURE"
    )
    assert place.one("select count(*) from raw.gutenberg__books where withdrawn") > 0


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
    assert len(states) == 7


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
