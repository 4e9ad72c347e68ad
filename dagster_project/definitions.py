"""The code location: puts the parts together, nothing else.

Loading it costs little more than `import dagster`, because every process of a run pays for it: no database is asked,
and no pandas, pyarrow, requests or dbt is imported (tests/unit/test_definitions_cost.py).
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.components import FileSource, naming
from dagster_project.components.uploads import uploads_sensor
from dagster_project.dbt_assets.load import load_dbt
from dagster_project.execution.executors import executor
from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.operations import housekeeping
from dagster_project.operations.alerts.sensor import alerts
from dagster_project.operations.ecs_tasks import ecs_tasks
from dagster_project.operations.first_run import first_run
from dagster_project.operations.relaunch import schedules
from dagster_project.resources import Platform, Warehouse
from dagster_project.settings import get_settings

if TYPE_CHECKING:
    from dagster.components.core.component_tree import ComponentTree

ROOT = Path(__file__).parent
NAME = "bindery"


@dg.definitions
def bindery() -> dg.Definitions:
    """Assemble cards, Python assets and dbt with what moves them."""
    # Configured by the run: a plain instance would hand the warehouse its defaults, whatever the run says.
    platform = Platform.configure_at_launch()
    sources = load_defs_folder()
    queue = get_settings().uploads_queue_url
    defs = dg.Definitions.merge(
        sources,
        load_dbt(get_settings()),
        dg.Definitions(
            resources={"platform": platform, "warehouse": Warehouse(platform=platform)},
            executor=executor(get_settings().environment),
            jobs=[
                dg.define_asset_job(
                    "pipeline_with_scraping",
                    dg.AssetSelection.all() - dg.AssetSelection.tag(naming.LANE_TAG, "true"),
                    description="Fetch every source, load it, then everything downstream.",
                ),
                dg.define_asset_job(
                    "pipeline",
                    dg.AssetSelection.all() - dg.AssetSelection.key_prefixes(["landing"]),
                    description="Load what is landed, then everything downstream; asks nothing of the sources.",
                ),
            ],
            schedules=[housekeeping.schedule()],
            sensors=[
                alerts(),
                *(uploads(sources, queue) if queue is not None else []),
                *([first_run("pipeline_with_scraping")] if get_settings().environment == "docker" else []),
                *([ecs_tasks()] if get_settings().environment == "ecs" else []),
                dg.AutomationConditionSensorDefinition(
                    "default_automation_condition_sensor",
                    target=dg.AssetSelection.all(),
                    default_status=dg.DefaultSensorStatus.RUNNING,
                    minimum_interval_seconds=30,
                    description="Brings assets up to date whose automation condition says so.",
                ),
            ],
        ),
    )
    # Only now is known which jobs there are.
    return dg.Definitions.merge(defs, dg.Definitions(schedules=schedules(defs, get_settings().keep_running)))


def uploads(sources: dg.Definitions, queue: str) -> list[dg.SensorDefinition]:
    """Build the sensor that serves every watched bucket; cards that read folders are left alone by it."""
    cards = watched_files()
    if not cards:
        return []
    names = {name(card.source) for card in cards for name in (naming.fetch_job, naming.backlog_job)}
    jobs = [job for job in sources.jobs or [] if getattr(job, "name", None) in names]
    return [uploads_sensor(cards, jobs, queue)]


def watched_files() -> list[FileSourceCard]:
    """Give the cards of files that a sensor shall watch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = [component.card for component in component_tree().get_all_components(of_type=FileSource)]
    return [card for card in files if isinstance(card, FileSourceCard) and card.watch]


def load_defs_folder() -> dg.Definitions:
    """Load ``defs/`` through the component tree.

    ``dg.load_from_defs_folder`` would do, but it also imports every package that has components to offer, in every
    process, for a list that only `dg` shows: 4 s against 0.1 s.
    """
    with warnings.catch_warnings():
        # Dagster's own loader uses parts of itself that are in beta, and a function that pydantic has deprecated.
        warnings.simplefilter("ignore")
        # Without `component_tree=`: with it the code server imports all those packages after all, at each start.
        return component_tree().build_defs_at_path(ROOT / "defs")


def component_tree() -> ComponentTree:
    """Give the tree of the cards in ``defs/``, of which nothing is loaded yet."""
    from dagster.components.core.component_tree import ComponentTree

    defs = importlib.import_module("dagster_project.defs")
    return ComponentTree(defs_module=defs, project_root=ROOT.parent, code_location_name=NAME)
