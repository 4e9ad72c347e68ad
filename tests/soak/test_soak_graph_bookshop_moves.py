"""The shipped bookshop card keeps its rows when the shop is served at another address, as the sample world may be."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dagster_project import warehouse
from dagster_project.cli.context import find_card
from dagster_project.ingest import pipeline
from dagster_project.runtime import engine_runtime
from dagster_project.sample.process import ensure_running, stop
from dagster_project.settings import Settings, get_settings


def test_another_port_changes_addresses_and_no_key(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "world"
    loads = []
    with socket.socket() as taken:
        for _ in range(2):
            world = ensure_running(state, 1, 0.1)
            monkeypatch.setenv("BINDERY_BOOKSHOP_URL", world.bookshop_url)
            report = pipeline.run_source(find_card("bookshop"), engine_runtime(get_settings()))
            loads.append((world.port, report.load.streams["products"]))
            stop(state)
            # The old port is somebody else's now, so the world takes a new one.
            if not taken.getsockname()[1]:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(("127.0.0.1", world.port))
                taken.listen()
    (old, first), (new, second) = loads
    assert old != new
    assert first.inserted > 10
    assert (second.inserted, second.deleted, second.quarantined) == (0, 0, 0)
    assert second.updated == first.inserted, "the page's address is a column like others"
    with warehouse.connect(settings, "reader") as connection:
        found = connection.execute("select count(*), bool_and(url like %s) from raw.bookshop__products", [f"%:{new}/%"])
        assert found.fetchone() == (first.inserted, True)
