"""Looks after the containers of runs and steps: fails runs that never came up, ends orphans, removes the dead.

``python -m dagster_project.execution.docker.supervisor`` is a service of its own, the only one that may remove.
Everything is done by ``sweep``, from what the engine and Dagster say at that moment, so that it may be killed and
started again at any time; the engine's events only say when to look. Containers of others are never touched: the
engine is asked for those of this project, and the proxy in front of it shows no other.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord

from dagster_project.execution import labels
from dagster_project.execution.diagnosis import LINES
from dagster_project.execution.docker.diagnosis import death_of, explain_run

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SWEEP_SECONDS = 10.0
"""Between two looks where nothing happens."""
KEPT_SECONDS = 120.0
"""How long the container of a step that ended stays while its run goes on: the run's worker reads how it ended."""
STOP_SECONDS = 3
LAST_WORDS_SECONDS = 15.0
"""How long steps of a run that succeeded may still be up: they have reported their end, and note what they used."""
LOG_BYTES = 1_000_000
"""Most that is kept of the output of a container that failed."""
_STARTING = {DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING}
log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """What one look did, by container name or run id."""

    removed: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def sweep(client: DockerClient, instance: DagsterInstance, project: str, logs: Path) -> Sweep:
    """Bring containers and runs into agreement.

    Args:
        client: The engine, with the right to remove.
        instance: Dagster's.
        project: Whose containers.
        logs: Folder that takes the output of containers that failed.
    """
    done = Sweep()
    records: dict[str, RunRecord | None] = {}
    label = f"{labels.PROJECT}={project}"
    for container in client.containers.list(all=True, filters={"label": [label, labels.KIND]}):
        # It may have been removed since it was listed.
        with contextlib.suppress(_not_found()):
            run_id = container.labels.get(labels.RUN, "")
            if run_id not in records:
                records[run_id] = instance.get_run_record_by_id(run_id)
            _look_at(container, records[run_id], instance, logs, done)
    return done


def _look_at(
    container: Container, record: RunRecord | None, instance: DagsterInstance, logs: Path, done: Sweep
) -> None:
    name, kind = str(container.name), container.labels.get(labels.KIND)
    run = record.dagster_run if record is not None else None
    over = run is None or run.is_finished
    if container.status in {"running", "paused", "restarting"}:
        if over and kind == "step" and not _says_its_last_words(record):
            container.stop(timeout=STOP_SECONDS)
            done.ended.append(name)
            if run is not None:
                instance.report_engine_event(f"Ended the container {name}: its run is over.", dagster_run=run)
        return
    if container.status == "created" and not over:
        return  # about to be started
    if kind == "run" and run is not None and _never_came_up(container, run):
        lines = container.logs(tail=LINES).decode(errors="replace").splitlines()
        instance.report_run_failed(run, explain_run(death_of(container.attrs["State"]), lines, name))
        done.failed.append(run.run_id)
        over = True
    if over or _ended_for(container) > KEPT_SECONDS:
        keep_log(container, logs)
        container.remove(v=True)
        done.removed.append(name)


def _says_its_last_words(record: RunRecord | None) -> bool:
    """Say whether a run succeeded just now: its last step still writes down what it used, and ends by itself."""
    if record is None or record.dagster_run.status != DagsterRunStatus.SUCCESS or record.end_time is None:
        return False
    return dt.datetime.now(dt.UTC).timestamp() - record.end_time < LAST_WORDS_SECONDS


def _never_came_up(container: Container, run: DagsterRun) -> bool:
    """Say whether a run still starts whose container has ended: Dagster would wait for it until a timeout."""
    its_own = run.tags.get("docker/container_id") == container.id
    return its_own and run.status in _STARTING and container.status in {"exited", "dead"}


def keep_log(container: Container, folder: Path) -> None:
    """Keep the output of a container that failed: once it is removed, the engine has it no more."""
    if death_of(container.attrs["State"]).good:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = container.logs(tail=10_000, timestamps=True)[-LOG_BYTES:]
    staged = folder / f".{container.name}.new"
    staged.write_bytes(text)
    staged.replace(folder / f"{container.name}.log")


def _ended_for(container: Container) -> float:
    finished = str(container.attrs["State"].get("FinishedAt") or "")
    try:
        moment = dt.datetime.fromisoformat(finished[:19]).replace(tzinfo=dt.UTC)
    except ValueError:
        return 0.0
    return (dt.datetime.now(dt.UTC) - moment).total_seconds()


def _not_found() -> type[Exception]:
    import docker.errors

    return docker.errors.NotFound


def watch(client: DockerClient, project: str, wake: queue.Queue[None]) -> None:
    """Wake the sweeper whenever a container of the project ends; for a thread of its own, for ever."""
    while True:
        try:
            for event in _ends(client, project):
                log.debug("ended: %s", event.get("Actor", {}).get("Attributes", {}).get("name"))
                wake.put(None)
        except Exception:  # whatever it is, the sweeps go on by the clock
            log.warning("the engine's events broke off; asking again", exc_info=True)
        threading.Event().wait(SWEEP_SECONDS)


def _ends(client: DockerClient, project: str) -> Iterator[dict[str, Any]]:
    wanted = {"type": ["container"], "event": ["die", "oom"], "label": [f"{labels.PROJECT}={project}"]}
    yield from client.events(decode=True, filters=wanted)


def main() -> None:
    """Sweep until somebody ends it."""
    from docker import DockerClient

    from dagster_project.settings import get_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = get_settings()
    client = DockerClient.from_env(timeout=60)
    wake: queue.Queue[None] = queue.Queue()
    threading.Thread(target=watch, args=(client, settings.project, wake), daemon=True).start()
    log.info("looking after the containers of %s", settings.project)
    with DagsterInstance.get() as instance:
        while True:
            try:
                done = sweep(client, instance, settings.project, settings.data_dir / "logs" / "containers")
                for what, names in (("failed run", done.failed), ("ended", done.ended), ("removed", done.removed)):
                    for name in names:
                        log.info("%s %s", what, name)
            except Exception:  # the engine or the database may be away for a while
                log.warning("this look failed; the next one follows in %s s", SWEEP_SECONDS, exc_info=True)
            with contextlib.suppress(queue.Empty):
                wake.get(timeout=SWEEP_SECONDS)
                # Several at once, and their last events, are one reason to look.
                threading.Event().wait(0.5)
                while True:
                    wake.get_nowait()


if __name__ == "__main__":
    main()
