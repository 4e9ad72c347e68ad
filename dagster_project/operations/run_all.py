"""One run of the whole graph in this process, in the same Dagster instance that `bindery dev` shows.

A run that is killed leaves its work where it is: batches stay open, loads are whole or not there, and the next start
marks the run as failed and goes on from the landing log. Nothing here prints; who calls gets events and a summary.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dagster_project.operations.blame import explained
from dagster_project.operations.instance import (
    WORKER_TAG,
    fail_dead_runs,
    open_instance,
    prepare_debug_home,
    prepare_home,
    this_worker,
)
from dagster_project.operations.summary import AssetResult, Collector, RunEvent, RunSummary

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance, DagsterRun, JobDefinition
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    from dagster_project.settings import Settings

MODULE, ATTRIBUTE, LOCATION = "dagster_project.definitions", "bindery", "bindery"
JOB = "pipeline_with_scraping"


def _silent(_event: RunEvent) -> None:
    return None


def materialize_everything(
    settings: Settings,
    *,
    debug: bool = False,
    debug_rows: int | None = None,
    full_refresh: bool = False,
    job: str = JOB,
    on_event: Callable[[RunEvent], None] = _silent,
) -> RunSummary:
    """Run a job of the code location, by default the one that fetches, loads and builds everything.

    Args:
        settings: Say which installation; Postgres is started where it is the embedded one.
        debug: Few rows of each stream, into the scratch database; the real one isn't touched, and neither is the
            history of the instance that `bindery dev` shows.
        debug_rows: How few; without ``debug`` it means a debug run as well.
        full_refresh: Forget cursors and read everything again.
        job: Name of the job.
        on_event: Is called with each sign of life.

    Returns:
        How it ended; failures are in it, not raised.

    Raises:
        AssetCodeError: A Python file in ``defs/`` can't be loaded.
    """
    from dagster_project import warehouse
    from dagster_project.dbt_assets.process import preloaded
    from dagster_project.dbt_assets.program import prepare
    from dagster_project.execution.forks import warm_up
    from dagster_project.execution.storage import keep_connections
    from dagster_project.settings import export_environment

    rows = debug_rows or (settings.debug_rows if debug else 0)
    started = time.monotonic()
    warehouse.ensure_ready(settings)
    prepare(settings)
    home = prepare_debug_home(settings) if rows else prepare_home(settings)
    export_environment(home.environment)
    warm_up()
    with preloaded(settings, settings.debug_database if rows else None), open_instance(home) as instance:
        keep_connections(instance)
        recovered = fail_dead_runs(instance)
        repository = _repository(settings)
        run, definition = _create(instance, repository, job, _run_config(rows, full_refresh))
        summary = RunSummary(
            run.run_id,
            database=settings.debug_database if rows else settings.database_name,
            debug_rows=rows,
            recovered_runs=recovered,
        )
        steps = _steps_of(definition)
        summary.assets = [asset for assets in steps.values() for asset in assets]
        collector = Collector(summary, steps)
        on_event(RunEvent("started", message=run.run_id, total=len(summary.assets)))
        try:
            with _terminate_like_interrupt():
                for event in _execute(instance, repository, job, run):
                    if _tells_of_interruption(event):
                        # What is about to end is wanted to end: it counts as canceled, not as failed.
                        instance.report_run_canceling(run)
                        summary.interrupted = True
                    if summary.interrupted and (event.is_step_failure or event.is_step_up_for_retry):
                        continue  # of steps that were told to end: no news, and nothing that will be tried again
                    sign = collector.take(event)
                    if sign is not None:
                        on_event(sign)
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            collector.close()
            _settle(instance, run.run_id, summary)
    summary.seconds = time.monotonic() - started
    on_event(RunEvent("done", total=len(summary.assets)))
    return summary


def _run_config(rows: int, full_refresh: bool) -> dict[str, Any]:
    platform = {"debug_rows": rows, "full_refresh": full_refresh}
    return {
        "resources": {"platform": {"config": platform}},
        # The terminal shows progress; the events themselves are in the UI.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def _repository(settings: Settings) -> ReconstructableRepository:
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    return ReconstructableRepository.for_module(MODULE, ATTRIBUTE, str(settings.project_dir))


def _create(
    instance: DagsterInstance, repository: ReconstructableRepository, job: str, run_config: dict[str, Any]
) -> tuple[DagsterRun, JobDefinition]:
    """Create the run as the UI would have: with the origin that lets it be opened and repeated there."""
    from dagster._core.remote_origin import (
        GrpcServerCodeLocationOrigin,
        RemoteJobOrigin,
        RemoteRepositoryOrigin,
    )

    from dagster_project.settings import get_settings

    try:
        definition = repository.get_definition()
    except Exception as error:
        if (said := explained(error)) is not None:
            raise said from error
        raise
    found = definition.get_job(job)
    settings = get_settings()
    location = GrpcServerCodeLocationOrigin(host=settings.code_host, port=settings.code_port, location_name=LOCATION)
    run = instance.create_run_for_job(
        job_def=found,
        run_config=run_config,
        tags={WORKER_TAG: this_worker(), "bindery/by": "bindery run"},
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, definition.name), job),
        job_code_origin=repository.get_reconstructable_job(job).get_python_origin(),
    )
    return run, found


def _execute(
    instance: DagsterInstance, repository: ReconstructableRepository, job: str, run: DagsterRun
) -> Iterator[Any]:
    from dagster._core.execution.api import execute_run_iterator

    yield from execute_run_iterator(repository.get_reconstructable_job(job), run, instance)


def _steps_of(job: JobDefinition) -> dict[str, list[AssetResult]]:
    """Give the assets of each step, in the order of the graph."""
    layer = job.asset_layer
    graph = layer.asset_graph
    order = {key: rank for rank, level in enumerate(graph.toposorted_asset_keys_by_level) for key in level}
    steps: dict[str, list[AssetResult]] = {}
    for node in job.nodes:
        keys = [key for key in layer.executable_asset_keys if _op_of(job, key) == node.name]
        if keys:
            steps[node.name] = [
                AssetResult(key.to_user_string(), graph.get(key).group_name or "", node.name)
                for key in sorted(keys, key=lambda key: (order.get(key, 0), key.to_user_string()))
            ]
    ranks = {step: min(order.get(_key(asset), 0) for asset in assets) for step, assets in steps.items()}
    return dict(sorted(steps.items(), key=lambda item: (ranks[item[0]], item[0])))


def _op_of(job: JobDefinition, key: Any) -> str:
    return str(job.asset_layer.get_op_output_handle(key).node_handle.name)


def _key(asset: AssetResult) -> Any:
    from dagster import AssetKey

    return AssetKey.from_user_string(asset.key)


@contextlib.contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: steps are told, the run is marked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tells_of_interruption(event: DagsterEvent) -> bool:
    """Say whether the executor has been told to stop, and is about to tell its steps."""
    if not event.is_engine_event:
        return False
    data = event.engine_event_data
    return data.error is None and "steps_interrupted" in data.metadata


def _settle(instance: DagsterInstance, run_id: str, summary: RunSummary) -> None:
    """Read how the run ended, and end it where it was left in the middle."""
    from dagster import DagsterRunStatus

    run = instance.get_run_by_id(run_id)
    if run is None:
        return
    if not run.is_finished:
        summary.interrupted = True
        instance.report_run_canceled(run, "Interrupted. The next run goes on where this one stopped.")
    elif run.status == DagsterRunStatus.CANCELED:
        summary.interrupted = True
    summary.finished = run.status == DagsterRunStatus.SUCCESS
