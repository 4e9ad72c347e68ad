"""One step, one task: starts it, watches it, starts it again where AWS took it away, and says why it died.

Built on Dagster's step handlers, as ``ecs_executor`` is: the executor around it decides which step is next and what a
failure means. An interruption of Spot and a start that AWS fumbled are no failures of the step: it is started again,
a bounded number of times, without using up its own retries.
"""

# No postponed annotations here: Dagster reads those of an executor's function as they are.
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagster import DagsterEvent, MetadataValue
from dagster._core.events import EngineEventData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext

from dagster_project.execution import labels
from dagster_project.execution.compute import Compute, ComputeError, larger, requested
from dagster_project.execution.diagnosis import LINES
from dagster_project.execution.ecs import tasks
from dagster_project.execution.ecs.cluster import BusyError, Cluster, NoCapacityError, Task, tags_of
from dagster_project.execution.ecs.diagnosis import Death, death_of, explain
from dagster_project.execution.ecs.sizes import Size, SizeError, size_of
from dagster_project.execution.handed import attempt, packed, step_key

if TYPE_CHECKING:
    from dagster._grpc.types import ExecuteStepArgs

SPOT_TRIES = 2
"""Tasks that may be interrupted; the next is on demand, which nobody interrupts."""
START_TRIES = 4
"""Tasks of one attempt that AWS may fumble or take back before the step counts as failed."""
WAITS = 12
"""Times that capacity is waited for, longer each time, 10 minutes together."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0
APPEARS_WITHIN = 60.0
"""Seconds in which ECS may not yet know a task that it has just started."""
LOOKED_FOR = 0.5
"""Seconds that one answer about all tasks of the run serves."""


@dataclass
class Patience:
    """How long events of a task that has ended may still be on their way."""

    after_good_end: float = 15.0
    after_bad_end: float = 2.0


@dataclass
class _Watch:
    """What is remembered of one attempt of a step."""

    compute: Compute
    size: Size | None = None
    arn: str | None = None
    on_demand: bool = False
    started_at: float = 0.0
    launches: int = 0
    interruptions: int = 0
    waits: int = 0
    next_try: float = 0.0
    ended_at: float | None = None
    refused: str | None = None
    why_waiting: str = ""


@dataclass
class EcsSteps(StepHandler):
    """Starts the task of each step of one run."""

    place: tasks.Place
    classes: Mapping[str, Compute]
    cluster: Cluster
    patience: Patience = field(default_factory=Patience)
    _watched: dict[tuple[str, int], _Watch] = field(default_factory=dict)
    _grown: dict[str, Compute] = field(default_factory=dict)
    _seen: dict[str, Task] = field(default_factory=dict)
    _seen_at: float = 0.0
    _adopted: bool = False
    _asked_to_end: bool = False

    @property
    def name(self) -> str:
        """Name it in the event log."""
        return "EcsSteps"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start the task of one step; one that is there already (the run's worker was replaced) is kept."""
        context = step_handler_context
        self._adopt(context)
        watch = self._watched.get(_identity(context))
        there = watch is not None and watch.arn is not None
        if watch is None or not there:
            watch = self._watched[_identity(context)] = self._new_watch(context)
            there = self._start(context, watch)
        if there:
            yield DagsterEvent.step_worker_starting(
                context.get_step_context(step_key(context)),
                message=f"Starting the task {_short(watch.arn)}: {self._described(watch)}.",
                metadata=self._metadata(watch),
            )

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether a step's task lives; of one that died, why, unless it can be started again."""
        context = step_handler_context
        self._adopt(context)
        watch = self._watched.get(_identity(context))
        if watch is None:
            return CheckStepHealthResult.unhealthy("No task of this step is running.")
        if watch.refused:
            return CheckStepHealthResult.unhealthy(watch.refused)
        if watch.arn is None:
            return self._try_again(context, watch)
        task = self._look().get(watch.arn)
        if task is None:
            if time.monotonic() - watch.started_at < APPEARS_WITHIN:
                return CheckStepHealthResult.healthy()
            return CheckStepHealthResult.unhealthy(f"The task {watch.arn} is gone: ECS doesn't know it any more.")
        if task.get("lastStatus") != "STOPPED":
            return CheckStepHealthResult.healthy()
        death = death_of(task)
        # Its last events may be on their way, and they say more than an exit code.
        if watch.ended_at is None:
            watch.ended_at = time.monotonic()
        patience = self.patience.after_good_end if death.good else self.patience.after_bad_end
        if time.monotonic() - watch.ended_at < patience:
            return CheckStepHealthResult.healthy()
        if self._starts_again(context, watch, death):
            return self._verdict(watch)
        if death.out_of_memory and watch.compute.grows and (grown := larger(watch.compute, self.classes)):
            self._grown[step_key(context)] = grown
        log = self.cluster.last_lines(task, LINES)
        return CheckStepHealthResult.unhealthy(explain(death, watch.compute, watch.size, log, watch.arn))

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """End a step: all of the run's steps are asked at once, so that none waits for another."""
        context = step_handler_context
        self._adopt(context)
        if not self._asked_to_end:
            self._asked_to_end = True
            for watch in self._watched.values():
                if watch.arn is not None and watch.ended_at is None:
                    self.cluster.stop(watch.arn, f"the run {context.dagster_run.run_id} ends")
        watch_of_step = self._watched.get(_identity(context))
        task = _short(watch_of_step.arn) if watch_of_step and watch_of_step.arn else "that was to come"
        yield DagsterEvent.engine_event(
            context.get_step_context(step_key(context)), f"Ending the task {task}.", EngineEventData()
        )

    # Starting

    def _new_watch(self, context: StepHandlerContext) -> _Watch:
        key = step_key(context)
        try:
            compute = self._grown.get(key) or requested(context.step_tags[key], self.classes)
        except ComputeError as error:
            return _Watch(self.classes["small"], refused=f"{error}. The step's tag bindery/compute says so.")
        watch = _Watch(compute, on_demand=self.place.capacity == tasks.ON_DEMAND)
        try:
            watch.size = size_of(compute, self.place.gpu_provider)
        except SizeError as error:
            watch.refused = str(error)
        return watch

    def _start(self, context: StepHandlerContext, watch: _Watch) -> bool:
        """Start a task; where there is no room on Spot, on demand; where there is none at all, later. Say if it was."""
        if watch.refused or watch.size is None:
            return False
        spot_first = not watch.on_demand and watch.size.on_fargate
        for on_demand in (False, True) if spot_first else (watch.on_demand,):
            try:
                request = self._request(context, watch, on_demand=on_demand)
                watch.arn = self.cluster.start(request)
            except NoCapacityError as error:
                watch.why_waiting = str(error)
                if spot_first and not on_demand:
                    self._say(context, f"{error}. Starting on {tasks.ON_DEMAND} instead.")
                continue
            except BusyError as error:
                watch.why_waiting = str(error)
                break
            except tasks.TaskError as error:  # a refusal, or more arguments than ECS takes
                watch.refused = str(error)
                return False
            watch.on_demand = on_demand
            watch.started_at, watch.ended_at = time.monotonic(), None
            watch.launches += 1
            self._seen_at = 0.0
            return True
        watch.arn = None
        watch.waits += 1
        pause = min(FIRST_WAIT * 2 ** (watch.waits - 1), LONGEST_WAIT)
        watch.next_try = time.monotonic() + pause
        if watch.waits > WAITS:
            watch.refused = (
                f"{watch.why_waiting}. It was tried {watch.waits} times. What to change: wait, or name subnets in more "
                "availability zones (BINDERY_ECS_SUBNETS)."
            )
        else:
            self._say(context, f"{watch.why_waiting}. Trying again in {pause:.0f} s.")
        return False

    def _request(self, context: StepHandlerContext, watch: _Watch, *, on_demand: bool) -> dict[str, object]:
        assert watch.size is not None
        key, run = step_key(context), context.dagster_run
        family = self.place.step_family(watch.compute, watch.size)
        if image := self.place.own_image(watch.compute):
            family = self.cluster.with_image(family, image)
        marks = {
            labels.RUN: run.run_id,
            labels.STEP: key,
            labels.ATTEMPT: str(attempt(context)),
            labels.JOB: run.job_name,
        }
        return tasks.step_request(
            self.place,
            family,
            watch.size,
            ["python", "-m", "dagster_project.execution.ecs.step", *packed(lighter(context.execute_step_args))],
            {"DAGSTER_RUN_JOB_NAME": run.job_name, "DAGSTER_RUN_STEP_KEY": key},
            tasks.task_tags(self.place, "step", watch.compute, marks),
            run_id=run.run_id,
            on_demand=on_demand,
        )

    def _try_again(self, context: StepHandlerContext, watch: _Watch) -> CheckStepHealthResult:
        """Start a step that waits for capacity, when its time has come."""
        if time.monotonic() >= watch.next_try and self._start(context, watch):
            self._say(context, f"Starting the task {_short(watch.arn)}: {self._described(watch)}.", watch)
        return self._verdict(watch)

    @staticmethod
    def _verdict(watch: _Watch) -> CheckStepHealthResult:
        if watch.refused:
            return CheckStepHealthResult.unhealthy(watch.refused)
        return CheckStepHealthResult.healthy()

    def _starts_again(self, context: StepHandlerContext, watch: _Watch, death: Death) -> bool:
        """Start the step again where its task ended through no fault of its own; say whether it was."""
        if self._asked_to_end or watch.launches >= START_TRIES:
            return False
        if death.interrupted:
            watch.interruptions += death.from_spot
            watch.on_demand = watch.on_demand or watch.interruptions >= SPOT_TRIES
            what = "Spot capacity" if death.from_spot else "machine"
            said = f"AWS took the {what} of the task {_short(watch.arn)} back."
        elif death.no_capacity:
            watch.on_demand = True
            said = f"There was no room for the task {_short(watch.arn)}: {death.told}."
        elif death.transient:
            said = f"AWS couldn't start the task {_short(watch.arn)}: {death.told}."
        else:
            return False
        watch.arn = None
        if self._start(context, watch):
            said += f" The step starts again in the task {_short(watch.arn)}, {self._described(watch)}"
            self._say(context, f"{said}; its own retries are untouched.", watch)
        return True

    # Looking

    def _adopt(self, context: StepHandlerContext) -> None:
        """Once: find tasks that another worker of this run started before it died."""
        if self._adopted:
            return
        self._adopted = True
        for task in self.cluster.of_run(context.dagster_run.run_id):
            marks = tags_of(task)
            if marks.get(labels.KIND) != "step" or labels.STEP not in marks:
                continue
            compute = self.classes.get(marks.get(labels.COMPUTE, ""), self.classes["small"])
            overrides = task.get("overrides") or {}
            provider = str(task.get("capacityProviderName") or "")
            watch = _Watch(compute, arn=str(task["taskArn"]), on_demand=provider == tasks.ON_DEMAND, launches=1)
            if overrides.get("cpu") and overrides.get("memory"):
                watch.size = Size(int(overrides["cpu"]), int(overrides["memory"]))
            watch.started_at = time.monotonic()
            self._watched[(marks[labels.STEP], int(marks.get(labels.ATTEMPT) or 0))] = watch

    def _look(self) -> dict[str, Task]:
        """Look at all tasks of the run in one question: a run of many steps asks no more than one of two."""
        if time.monotonic() - self._seen_at > LOOKED_FOR:
            wanted = [each.arn for each in self._watched.values() if each.arn and each.ended_at is None]
            ended = {arn: task for arn, task in self._seen.items() if task.get("lastStatus") == "STOPPED"}
            self._seen = {**ended, **self.cluster.describe(wanted)}
            self._seen_at = time.monotonic()
        return self._seen

    def _say(self, context: StepHandlerContext, message: str, watch: _Watch | None = None) -> None:
        metadata = self._metadata(watch) if watch is not None else {}
        DagsterEvent.engine_event(
            context.get_step_context(step_key(context)), message, EngineEventData(metadata=metadata)
        )

    def _described(self, watch: _Watch) -> str:
        assert watch.size is not None
        image = watch.compute.image or "dagster"
        why = f" ({watch.size.why})" if watch.size.why else ""
        return f"image {image}, class {watch.compute.name}, {watch.size}{why}, {self._provider(watch)}"

    def _provider(self, watch: _Watch) -> str:
        assert watch.size is not None
        return str(self.place.strategy(watch.size, on_demand=watch.on_demand)[0]["capacityProvider"])

    def _metadata(self, watch: _Watch) -> dict[str, MetadataValue]:
        assert watch.size is not None
        return {
            "task": MetadataValue.text(watch.arn or ""),
            "image": MetadataValue.text(watch.compute.image or self.place.dagster_image or "dagster"),
            "compute_class": MetadataValue.text(watch.compute.name),
            "cpu": MetadataValue.float(watch.size.cpu / 1024),
            "memory_bytes": MetadataValue.int(watch.size.memory * 2**20),
            "capacity": MetadataValue.text(self._provider(watch)),
        }


def _identity(context: StepHandlerContext) -> tuple[str, int]:
    return tasks.tag_value(step_key(context)), attempt(context)


def _short(arn: str | None) -> str:
    return (arn or "").rpartition("/")[2]


def lighter(args: "ExecuteStepArgs") -> "ExecuteStepArgs":
    """Leave out what the task knows by itself: overrides may not be longer than 8192 characters."""
    from dagster_shared.record import copy

    origin = args.job_origin
    repository = origin.repository_origin._replace(container_context=None, container_image=None)
    return copy(args, instance_ref=None, job_origin=origin._replace(repository_origin=repository))
