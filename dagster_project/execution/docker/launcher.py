"""The run launcher: Dagster's own for Docker, with our containers' limits, labels and networks.

Named in deploy/instance/docker/dagster.yaml; the daemon launches with it, the webserver ends runs with it.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import docker.errors
from dagster import DagsterRun
from dagster._core.storage.tags import DOCKER_IMAGE_TAG
from dagster_docker import DockerRunLauncher
from dagster_docker.docker_run_launcher import DOCKER_CONTAINER_ID_TAG

from dagster_project.execution import labels
from dagster_project.execution.docker import containers
from dagster_project.settings import child_environment, get_settings

STOP_SECONDS = 3
"""Between asking a run to end and ending it; its worker passes the word to the steps within this."""


class RunLauncher(DockerRunLauncher):
    """Launches each run in a container like those of its steps."""

    def _launch_container_with_command(self, run: DagsterRun, docker_image: str, command: Any) -> None:
        # The one method of Dagster's launcher that makes containers; what surrounds it stays as it is.
        place = containers.Place.of(get_settings())
        client = self._client()
        marks = {labels.RUN: run.run_id, labels.JOB: run.job_name}
        own = child_environment({})
        variables = {**containers.environment(own), "DAGSTER_RUN_JOB_NAME": run.job_name}
        if host := own.get("DOCKER_HOST"):
            variables["DOCKER_HOST"] = host
        container = client.containers.create(
            docker_image,
            # A run that is resumed after its worker died gets a second container.
            name=f"{place.project}-run-{run.run_id[:8]}-{int(time.time() * 1000) % 10**9:09}",
            command=list(command),
            **containers.options(place, "run", containers.RUN_COMPUTE, marks, variables),
        )
        containers.connect_others(client, container, place, "run")
        self._instance.report_engine_event(
            f"Launching the run in the container {container.name} with the image {docker_image}.",
            dagster_run=run,
            cls=self.__class__,
        )
        self._instance.add_run_tags(
            run.run_id, {DOCKER_CONTAINER_ID_TAG: str(container.id), DOCKER_IMAGE_TAG: docker_image}
        )
        container.start()

    def terminate(self, run_id: str) -> bool:
        """Ask a run's container to end, and end it where it doesn't."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        try:
            container = self._client().containers.get(run.tags.get(DOCKER_CONTAINER_ID_TAG, "unknown"))
            container.stop(timeout=STOP_SECONDS)
            said = f"Its worker didn't end it within {STOP_SECONDS} s, so its containers were ended."
        except docker.errors.NotFound:
            said = "Its container is gone."
        left = self._instance.get_run_by_id(run_id)
        if left is not None and not left.is_finished:
            self._end_steps(run_id)
            self._instance.report_engine_event(said, dagster_run=left, cls=self.__class__)
            self._instance.report_run_canceled(left)
        return True

    def _end_steps(self, run_id: str) -> None:
        # What a worker does that has the time for it; the supervisor would do it at its next look.
        place = containers.Place.of(get_settings())
        wanted = [f"{labels.PROJECT}={place.project}", f"{labels.RUN}={run_id}", f"{labels.KIND}=step"]
        for container in self._client().containers.list(filters={"label": wanted}):
            with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):  # it has ended by itself
                container.kill()

    def _client(self) -> docker.DockerClient:
        return docker.DockerClient.from_env()
