"""The run launcher: Dagster's own for ECS, told by our settings, with our tags, and with words for what goes wrong.

Named in deploy/instance/ecs/dagster.yaml; the daemon launches with it, the webserver ends runs with it. A run's worker
always runs on demand: it is small, it is there for the whole run, and its steps are what is cheaper on Spot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from dagster import DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import RUN_WORKER_ID_TAG
from dagster._serdes.config_class import ConfigurableClassData
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.ecs.container_context import EcsContainerContext
from dagster_aws.ecs.utils import RetryableEcsException

from dagster_project.execution import labels
from dagster_project.execution.diagnosis import LINES
from dagster_project.execution.ecs import tasks
from dagster_project.execution.ecs.cluster import BusyError, Cluster, NoCapacityError, Task
from dagster_project.execution.ecs.diagnosis import death_of, explain_run
from dagster_project.execution.ecs.sizes import size_of
from dagster_project.settings import get_settings

ARN_TAG = "ecs/task_arn"
"""Dagster's, of a run: its worker's task."""


class RunLauncher(EcsRunLauncher):
    """Launches each run in a task of the family ``P-run``."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self.place = tasks.Place.of(get_settings())
        size = size_of(tasks.RUN_COMPUTE)
        super().__init__(
            inst_data=inst_data,
            task_definition=self.place.run_family,
            container_name=tasks.CONTAINER,
            secrets_tag="",
            use_current_ecs_task_config=False,
            run_resources={"cpu": str(size.cpu), "memory": str(size.memory)},
            run_task_kwargs={
                "cluster": self.place.cluster,
                "capacityProviderStrategy": self.place.strategy(size, on_demand=True),
                "networkConfiguration": self.place.network(),
                "enableExecuteCommand": self.place.shell,
                "enableECSManagedTags": True,
            },
        )
        # The family, not the revision that was current when this process began: a deployment needs no restart.
        self.task_definition = self.place.run_family
        self.cluster = Cluster(self.place.cluster, self.place.project, self.ecs, self.logs)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take nothing from dagster.yaml: settings say it all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make it as Dagster does."""
        return cls(inst_data=inst_data, **config_value)

    def build_ecs_tags_for_run_task(
        self, run: DagsterRun, container_context: EcsContainerContext
    ) -> list[dict[str, str]]:
        """Give the tags of a run's task: Dagster's, and those that all our tasks have."""
        marks = {labels.RUN: run.run_id, labels.JOB: run.job_name}
        ours = tasks.tag_list(tasks.task_tags(self.place, "run", tasks.RUN_COMPUTE, marks))
        theirs: list[dict[str, str]] = super().build_ecs_tags_for_run_task(run, container_context)
        return [*theirs, *ours]

    def _run_task(self, **run_task_kwargs: Any) -> Task:
        try:
            arn = self.cluster.start(run_task_kwargs)
        except (NoCapacityError, BusyError) as error:
            raise RetryableEcsException(str(error)) from error  # Dagster's launcher waits and asks again
        cluster = arn.replace(":task/", ":cluster/").rpartition("/")[0]
        return {"taskArn": arn, "clusterArn": cluster if "/" in cluster else self.place.cluster}

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a run's task lives; of one that died, why."""
        worker = run.tags.get(RUN_WORKER_ID_TAG)
        task = self.task_of(run)
        if task is None:
            said = "ECS knows no task of the run's worker: it ended more than an hour ago, or was never started."
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, said, run_worker_id=worker)
        if task.get("lastStatus") != "STOPPED":
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=worker)
        # A run that is asked about isn't finished, so whatever its worker's exit code: it went too early.
        return CheckRunHealthResult(WorkerStatus.FAILED, self.explain(task, begun=True), run_worker_id=worker)

    def task_of(self, run: DagsterRun) -> Task | None:
        """Find the task of a run's worker."""
        arn = run.tags.get(ARN_TAG)
        return self.cluster.describe([arn]).get(arn) if arn else None

    def explain(self, task: Task, *, begun: bool) -> str:
        """Say why a run's task ended."""
        lines = self.cluster.last_lines(task, LINES)
        return explain_run(death_of(task), lines, str(task["taskArn"]), begun=begun)

    def terminate(self, run_id: str) -> bool:
        """Ask a run's task and those of its steps to end; what is gone already is marked as canceled."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        task = self.task_of(run)
        alive = task is not None and task.get("lastStatus") != "STOPPED"
        if alive and task is not None:
            self.cluster.stop(str(task["taskArn"]), f"the run {run_id} is canceled")
        # A worker that expects to be replaced leaves its steps to its successor, and there will be none.
        for step in self.cluster.of_run(run_id):
            self.cluster.stop(str(step["taskArn"]), f"the run {run_id} is canceled")
        if not alive:
            self._instance.report_engine_event("The task of its worker is gone.", dagster_run=run, cls=type(self))
            self._instance.report_run_canceled(run)
        return True
