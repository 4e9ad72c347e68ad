"""Telling Dagster of a load that ran without it (`bindery run SOURCE`), so that the UI's history has no holes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dagster_project.operations.instance import open_instance, prepare_home

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import SourceCard
    from dagster_project.ingest.load.report import LoadReport
    from dagster_project.settings import Settings


class Result(Protocol):
    """What the engine's pipeline gives back."""

    @property
    def load(self) -> LoadReport:
        """What the load did."""
        ...


def report_load(settings: Settings, card: SourceCard, result: Result) -> bool:
    """Report each loaded stream as a materialisation without a run, where this installation has an instance.

    Returns:
        Whether there was an instance to report to, and something to report.
    """
    load = result.load
    if load.load_id is None or not (settings.dagster_home_path / "dagster.yaml").exists():
        return False
    from dagster import AssetKey, AssetMaterialization

    with open_instance(prepare_home(settings)) as instance:
        for name, stream in load.streams.items():
            metadata: dict[str, Any] = {**stream.to_metadata(), "load_id": load.load_id, "by": "bindery run"}
            instance.report_runless_asset_event(
                AssetMaterialization(AssetKey(["raw", card.table(name)]), metadata=metadata)
            )
    return True
