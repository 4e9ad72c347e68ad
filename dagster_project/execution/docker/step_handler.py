"""One step, one container: starts it, watches it, ends it, and says why it died.

Built on Dagster's step handlers: the executor around it decides which step is next and what a failure means.
"""

# No postponed annotations here: Dagster reads those of an executor's function as they are.
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from dagster import DagsterEvent, MetadataValue
from dagster._core.events import EngineEventData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext

from dagster_project.execution import labels
from dagster_project.execution.compute import Compute, larger, requested
from dagster_project.execution.diagnosis import LINES
from dagster_project.execution.docker import containers
from dagster_project.execution.docker.diagnosis import Death, death_of, explain
from dagster_project.execution.handed import attempt, packed, step_key

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

REPORTS_WITHIN = 10.0
"""Seconds after the end of a container within which its last events are in the event log."""
MEASURED_EVERY = 5.0
"""Seconds between two looks at a step's memory."""
ENDS_WITHIN = 2.0
"""Seconds between asking a step to end and ending it."""


@dataclass
class _Watch:
    """What is remembered of a running step."""

    compute: Compute
    peak: int | None = None
    measured_at: float = 0.0
    ended_at: float | None = None


@dataclass
class DockerSteps(StepHandler):
    """Starts the container of each step of one run."""

    place: containers.Place
    classes: Mapping[str, Compute]
    variables: Mapping[str, str]
    client: "DockerClient"
    _watched: dict[str, _Watch] = field(default_factory=dict)
    _grown: dict[str, Compute] = field(default_factory=dict)
    _asked_to_end: float | None = None

    @property
    def name(self) -> str:
        """Name it in the event log."""
        return "DockerSteps"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start the container of one step; one that is there already (the run's worker was replaced) is kept."""
        import docker.errors

        context, key = step_handler_context, step_key(step_handler_context)
        compute = self._compute(context, key)
        name, image = self._container_name(context), self.place.image(compute)
        self._watched[key] = _Watch(compute)
        run = context.dagster_run
        marks = {
            labels.RUN: run.run_id,
            labels.STEP: key,
            labels.ATTEMPT: str(attempt(context)),
            labels.JOB: run.job_name,
        }
        variables = {**self.variables, "DAGSTER_RUN_JOB_NAME": run.job_name, "DAGSTER_RUN_STEP_KEY": key}
        arguments = ["python", "-m", "dagster_project.execution.step", *packed(context.execute_step_args)]
        try:
            container = self.client.containers.create(
                image,
                name=name,
                command=arguments,
                **containers.options(self.place, "step", compute, marks, variables),
            )
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise _refused(error, image, compute) from error
            container = self.client.containers.get(name)
        yield DagsterEvent.step_worker_starting(
            context.get_step_context(key),
            message=f"Starting the container {name}: {image}, {compute}.",
            metadata={
                "container": MetadataValue.text(name),
                "image": MetadataValue.text(image),
                "compute_class": MetadataValue.text(compute.name),
                "cpu": MetadataValue.float(float(compute.cpu)),
                "memory_bytes": MetadataValue.int(compute.memory),
            },
        )
        container.start()

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether a step's container lives; of one that died, why."""
        import docker.errors

        key, name = step_key(step_handler_context), self._container_name(step_handler_context)
        watch = self._watched.setdefault(key, _Watch(self._compute(step_handler_context, key)))
        try:
            container = self.client.containers.get(name)
        except docker.errors.NotFound:
            return CheckStepHealthResult.unhealthy(f"The container {name} is gone: somebody removed it.")
        state = container.attrs["State"]
        if state["Status"] in {"running", "created", "restarting", "paused"}:
            self._measure(container, watch)
            return CheckStepHealthResult.healthy()
        death = death_of(state)
        # Its last events may be on their way, and they say more than an exit code.
        if watch.ended_at is None:
            watch.ended_at = time.monotonic()
        patience = REPORTS_WITHIN if death.good else 1.0
        if time.monotonic() - watch.ended_at < patience:
            return CheckStepHealthResult.healthy()
        if death.out_of_memory and watch.compute.grows and (grown := larger(watch.compute, self.classes)):
            self._grown[key] = grown
        return CheckStepHealthResult.unhealthy(self._explain(container, death, watch))

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """End a step: all of the run's steps are asked at once, so that none waits for another."""
        import docker.errors

        context, key = step_handler_context, step_key(step_handler_context)
        name = self._container_name(context)
        if self._asked_to_end is None:
            self._asked_to_end = time.monotonic()
            for container in self._of_run(context.dagster_run.run_id):
                _signal(container, "SIGTERM")
        yield DagsterEvent.engine_event(
            context.get_step_context(key), f"Ending the container {name}.", EngineEventData()
        )
        try:
            container = self.client.containers.get(name)
        except docker.errors.NotFound:
            return
        deadline = self._asked_to_end + ENDS_WITHIN
        while container.status == "running" and time.monotonic() < deadline:
            time.sleep(0.1)
            container.reload()
        if container.status == "running":
            _signal(container, "SIGKILL")

    def _compute(self, context: StepHandlerContext, key: str) -> Compute:
        return self._grown.get(key) or requested(context.step_tags[key], self.classes)

    def _container_name(self, context: StepHandlerContext) -> str:
        words = f"{context.execute_step_args.run_id}/{step_key(context)}"
        tried = attempt(context)
        # Readable first, unique after it: names end at 63 characters on some networks.
        readable = "".join(char if char.isalnum() else "-" for char in step_key(context))[:30].strip("-").lower()
        digest = hashlib.sha256(words.encode()).hexdigest()[:10]
        return f"{self.place.project}-step-{readable}-{digest}" + (f"-{tried}" if tried else "")

    def _of_run(self, run_id: str) -> "list[Container]":
        wanted = [
            f"{labels.PROJECT}={self.place.project}",
            f"{labels.RUN}={run_id}",
            f"{labels.KIND}=step",
        ]
        found: list[Container] = self.client.containers.list(filters={"label": wanted})
        return found

    def _measure(self, container: "Container", watch: _Watch) -> None:
        now = time.monotonic()
        if now - watch.measured_at < MEASURED_EVERY:
            return
        watch.measured_at = now
        told = cast("dict[str, Any]", container.stats(stream=False, one_shot=True)).get("memory_stats", {})
        # cgroup v1 keeps the highest value, v2 tells the present one, page cache included in both.
        cache = int(told.get("stats", {}).get("inactive_file", told.get("stats", {}).get("total_inactive_file", 0)))
        used = max(int(told.get("usage", 0)) - cache, 0)
        watch.peak = max(watch.peak or 0, used) or None

    def _explain(self, container: "Container", death: Death, watch: _Watch) -> str:
        log = container.logs(tail=LINES).decode(errors="replace").splitlines()
        return explain(death, watch.compute, watch.peak, log, str(container.name))


def _signal(container: "Container", name: str) -> None:
    import docker.errors

    try:
        container.kill(signal=name)
    except docker.errors.APIError as error:
        if error.status_code not in {404, 409}:  # it has ended by itself
            raise


def _refused(error: Any, image: str, compute: Compute) -> Exception:
    from dagster import Failure

    said = str(error.explanation or error)
    hint = ""
    if error.status_code == 404 and "image" in said.lower():
        hint = f" `docker compose build` makes {image}; a registry's is fetched by `docker pull {image}`."
    elif "device driver" in said:
        hint = f" The compute class {compute} needs a GPU, and this engine has no driver for one."
    return Failure(f"The engine refuses the container of the step ({image}): {said}.{hint}", allow_retries=False)
