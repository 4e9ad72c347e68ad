"""The same work under three executors: the shipped graph, and a chain of ops that do nothing.

Loaded by the code server in place of the shipped definitions, of which it takes all but schedules and sensors: what a
step costs includes loading them, as we load them or as Dagster's own function for a folder of components does.
"""

# No postponed annotations here: Dagster reads those of executors and ops as they are.
import os

import dagster as dg
from dagster_docker import docker_executor

from dagster_project import definitions
from dagster_project.execution.compute import CLASSES
from dagster_project.execution.docker import containers
from dagster_project.execution.docker.executor import docker_steps
from dagster_project.settings import get_settings

STOCK_LOADER = os.environ.get("BINDERY_BENCH_LOADER") == "stock"
OPEN_ENGINE = "tcp://open-engine:2375"
"""The engine without the filter, which knows no containers but ours."""
LENGTH = 5
CONCURRENT = 4


def stock_config() -> dict[str, object]:
    """Give Dagster's executor the same containers: limits, volumes, network. One image must do for all steps: dbt's."""
    place = containers.Place.of(get_settings())
    described = containers.options(place, "step", CLASSES["small"], {}, {})
    for unwanted in ("detach", "network", "environment", "labels"):
        described.pop(unwanted)
    variables = containers.environment(os.environ)
    return {
        "image": place.dbt_image,
        "networks": place.networks("step"),
        "env_vars": [f"{name}={value}" for name, value in variables.items()],
        "container_kwargs": described,
        "max_concurrent": CONCURRENT,
    }


@dg.executor(name="stock_docker", requirements=dg.multiple_process_executor_requirements())
def stock(context: dg.InitExecutorContext) -> dg.Executor:
    """Run each step in its own container as dagster_docker does."""
    os.environ["DOCKER_HOST"] = OPEN_ENGINE
    configured = docker_executor.configured(stock_config(), name="stock")
    made = configured.executor_creation_fn
    assert made is not None
    resolved = configured.apply_config_mapping({"config": {}}).value or {}
    return made(context._replace(executor_config=resolved["config"], executor_def=configured))


def nothing(number: int) -> dg.OpDefinition:
    """Make an op that waits for the one before it."""

    @dg.op(name=f"link_{number}", ins={} if number == 1 else {"before": dg.In(dg.Nothing)})
    def link() -> None:
        pass

    return link


@dg.graph
def chain() -> None:
    """Ops that do nothing, one after the other."""
    before = None
    for number in range(1, LENGTH + 1):
        before = nothing(number)() if before is None else nothing(number)(before=before)


executors = {
    "ours": docker_steps,
    "stock": stock,
    "processes": dg.multiprocess_executor.configured({"max_concurrent": CONCURRENT}),
}


@dg.definitions
def measured() -> dg.Definitions:
    """Take the shipped assets, under jobs of our own."""
    if STOCK_LOADER:
        definitions.load_defs_folder = lambda: dg.load_from_defs_folder(path_within_project=definitions.ROOT)
    shipped = definitions.bindery()
    everything = dg.AssetSelection.all()
    return dg.Definitions(
        assets=shipped.assets,
        asset_checks=shipped.asset_checks,
        resources=shipped.resources,
        jobs=[
            *(chain.to_job(name=f"chain_{name}", executor_def=made) for name, made in executors.items()),
            # Processes inside of the run's own container have no dbt there: the laptop stands for them.
            dg.define_asset_job("graph_ours", everything, executor_def=docker_steps),
            dg.define_asset_job("graph_stock", everything, executor_def=stock),
        ],
    )
