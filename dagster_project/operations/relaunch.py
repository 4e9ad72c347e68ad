"""Relaunch if idle: a job that is to keep running is launched when no run of it is active or queued.

A job says so by its tag ``bindery/keep_running``, an operator by the setting ``keep_running``, which wins. A run that
is only active by name (its process or its container is gone and nobody marked it) is marked as failed first: otherwise
one dead run would keep its job from ever being launched again.
"""

# No postponed annotations here: Dagster reads those of a schedule's function as they are.
import logging
import time
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun, RunRecord

KEEP_TAG = "bindery/keep_running"
"""Tag of a job: ``hourly``, ``daily``, ``weekly``, or a cron expression (UTC)."""
RELAUNCHED_TAG = "bindery/relaunched"
ACTIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
PAGE = 50
YOUNG_SECONDS = 120.0
"""A run this young is believed: its worker may not be known yet."""
SILENT_SECONDS = 6 * 3600.0
"""A run whose worker nobody can find is believed for so long after its last event."""
UNBORN_SECONDS = 3600.0
"""A run that was made and never submitted is believed for so long: whoever made it is gone."""
_log = logging.getLogger(__name__)


def schedules(defs: dg.Definitions, setting: str | None) -> list[dg.ScheduleDefinition]:
    """Make the schedules of the jobs that are to keep running.

    A job that doesn't exist, or a tag that is no time, leaves its schedule out with a warning: one slip must not take
    the code location down.
    """
    from dagster_project.ingest.cards.cron import cron_fields
    from dagster_project.settings.fields import cron_of_word, jobs_kept_running

    tags = {str(job.name): dict(job.tags or {}) for job in defs.jobs or []}
    wanted = {}
    for job, of_job in tags.items():
        if (said := of_job.get(KEEP_TAG)) is not None:
            if cron := cron_of_word(said):
                wanted[job] = cron
            else:
                _log.warning("%s: the tag %s is hourly, daily, weekly or cron, got %r", job, KEEP_TAG, said)
    for job, cron in jobs_kept_running(setting).items():
        if job in tags:
            wanted[job] = cron
        else:
            _log.warning("BINDERY_KEEP_RUNNING names the job %r; there are %s", job, ", ".join(sorted(tags)))
    made = []
    for job, cron in sorted(wanted.items()):
        try:
            cron_fields(cron)
        except ValueError as error:
            _log.warning("%s doesn't keep running: %s", job, error)
        else:
            made.append(_schedule(job, cron))
    return made


def _schedule(job: str, cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job}_keep_running",
        job_name=job,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Launches {job} where no run of it is active or queued; looks at {cron} (UTC).",
    )
    def relaunch(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if (run := active_run(context.instance, job)) is not None:
            return dg.SkipReason(f"run {run.run_id} is {run.status.value.lower()}")
        return dg.RunRequest(tags={RELAUNCHED_TAG: "true"})

    return relaunch


def active_run(instance: "DagsterInstance", job: str, *, now: float | None = None) -> "DagsterRun | None":
    """Find a run of a job that is under way or waits for its turn; mark those as failed that are so by name alone.

    Args:
        instance: Dagster's.
        job: Name of the job.
        now: The time, for tests.
    """
    now = time.time() if now is None else now
    filters, cursor = dg.RunsFilter(job_name=job, statuses=ACTIVE), None
    dead = []
    while records := instance.get_run_records(filters, limit=PAGE, cursor=cursor):
        cursor = records[-1].dagster_run.run_id
        for record in records:
            if reason := why_dead(instance, record, now):
                dead.append((record.dagster_run, reason))
            else:
                return record.dagster_run
    # After the listing: a run that has ended is in it no more, and the cursor must be.
    for run, reason in dead:
        instance.report_run_failed(run, f"{reason} It kept its job from being launched again.")
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return None


def why_dead(instance: "DagsterInstance", record: "RunRecord", now: float) -> str:
    """Say why a run counts as dead, nothing where it lives or may still live."""
    from dagster_project.operations.instance import is_dead

    run = record.dagster_run
    if run.status == dg.DagsterRunStatus.QUEUED:
        return ""
    age = now - record.create_timestamp.timestamp()
    if run.status == dg.DagsterRunStatus.NOT_STARTED:
        return "It was made and never submitted." if age > UNBORN_SECONDS else ""
    if age < YOUNG_SECONDS:
        return ""
    if is_dead(run):
        return "The process that carried it out is gone."
    health = _health(instance, run)
    if health == "alive":
        return ""
    silence = now - _last_event(instance, record)
    if health == "dead" and not instance.run_will_resume(run.run_id):
        return "Its worker is gone."
    # Nobody knows its worker, or monitoring was to replace it and hasn't.
    return (
        f"Its worker is nowhere, and it has said nothing for {silence / 3600:.0f} hours."
        if (silence > SILENT_SECONDS)
        else ""
    )


def _health(instance: "DagsterInstance", run: "DagsterRun") -> str:
    from dagster._core.launcher.base import WorkerStatus

    launcher = instance.run_launcher
    if not launcher.supports_check_run_worker_health:
        return "unknown"
    try:
        status = launcher.check_run_worker_health(run).status
    except Exception:  # noqa: BLE001  # an engine or AWS that doesn't answer says nothing about the run
        _log.warning("the worker of run %s can't be looked at", run.run_id, exc_info=True)
        return "unknown"
    if status == WorkerStatus.RUNNING:
        return "alive"
    return "dead" if status in {WorkerStatus.FAILED, WorkerStatus.NOT_FOUND, WorkerStatus.SUCCESS} else "unknown"


def _last_event(instance: "DagsterInstance", record: "RunRecord") -> float:
    found = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False).records
    return float(found[0].event_log_entry.timestamp) if found else record.create_timestamp.timestamp()


def launch_if_idle(instance: "DagsterInstance", job: str) -> tuple[str, bool]:
    """Launch a job through the run launcher unless a run of it is active: for a scheduler outside, without a daemon.

    Returns:
        The id of the run, and whether it was launched now.

    Raises:
        ValueError: There is no such job.
    """
    if (run := active_run(instance, job)) is not None:
        return run.run_id, False
    made = _create(instance, job)
    instance.launch_run(made.run_id, None)  # type: ignore[arg-type]  # launchers of containers and tasks ask none
    return made.run_id, True


def _create(instance: "DagsterInstance", job: str) -> "DagsterRun":
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._core.errors import DagsterInvariantViolationError
    from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

    from dagster_project.operations.run_all import ATTRIBUTE, LOCATION, MODULE
    from dagster_project.settings import get_settings

    settings = get_settings()
    repository = ReconstructableRepository(
        ModuleCodePointer(MODULE, ATTRIBUTE, working_directory=str(settings.project_dir))
    )
    definition = repository.get_definition()
    try:
        found: Any = definition.get_job(job)
    except DagsterInvariantViolationError:
        names = ", ".join(sorted(name for name in definition.job_names if not name.startswith("__")))
        raise ValueError(f"there is no job {job!r}; there are {names}") from None
    location = GrpcServerCodeLocationOrigin(host=settings.code_host, port=settings.code_port, location_name=LOCATION)
    return instance.create_run_for_job(
        job_def=found,
        tags={RELAUNCHED_TAG: "true"},
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, definition.name), job),
        job_code_origin=repository.get_reconstructable_job(job).get_python_origin(),
    )
