"""One call of ``dbt build``: its nodes as they finish, its errors, and its end, also when the step is interrupted."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.dbt_assets.log import Finished, Line, read_line, read_results
from dagster_project.dbt_assets.manifest import Node
from dagster_project.dbt_assets.process import Process, start
from dagster_project.dbt_assets.program import DbtError, command, environment, missing_program, project_options

if TYPE_CHECKING:
    from dagster_project.settings import Settings

GRACE_SECONDS = 10
"""dbt gets so long to cancel its queries when the step is interrupted."""
CRASHED = 2
"""dbt's exit code where it came to no results: 0 is all well, 1 is nodes that failed."""


class Invocation:
    """A run of some nodes, exactly those."""

    def __init__(
        self,
        settings: Settings,
        database: str | None,
        folder: Path,
        nodes: Iterable[Node],
        *,
        full_refresh: bool = False,
        watch: Callable[[Line], None] = lambda _line: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._folder = folder
        self._nodes = list(nodes)
        self._full_refresh = full_refresh
        self._watch = watch
        self.errors: list[str] = []
        self.code: int = 0
        self.results: dict[str, Finished] = {}

    def run(self) -> Iterator[Finished]:
        """Run dbt; give each node as it finishes, then those of which only the results file speaks.

        Raises:
            DbtError: The program isn't there.
        """
        try:
            process = start(
                self._settings,
                self._arguments(),
                environment(self._settings, self._database),
                self._settings.dbt_project_dir,
                self._folder,
            )
        except FileNotFoundError as error:
            raise DbtError(missing_program(self._settings)) from error
        seen: set[str] = set()
        try:
            assert process.stdout is not None
            for text in process.stdout:
                if not text.strip():
                    continue
                line = read_line(text)
                self._watch(line)
                if line.level == "error" and line.message.strip():
                    self.errors.append(line.message)
                if line.finished is not None and line.finished.good and line.finished.unique_id not in seen:
                    seen.add(line.finished.unique_id)
                    yield line.finished
            self.code = process.wait()
        finally:
            _end(process)
        self.results = read_results(self._folder)
        for unique_id, finished in self.results.items():
            if unique_id not in seen:
                yield finished

    def _arguments(self) -> list[str]:
        arguments = [
            *command(self._settings),
            "build",
            *project_options(self._settings, self._folder),
            # Exactly the named nodes: no test comes along because of its model, and no unit test at all.
            "--indirect-selection",
            "empty",
            "--exclude-resource-type",
            "unit_test",
            "--select",
            *(selector(node) for node in self._nodes),
        ]
        return [*arguments, "--full-refresh"] if self._full_refresh else arguments


def selector(node: Node) -> str:
    """Give what selects one node on dbt's command line."""
    return "fqn:" + ".".join(node.fqn)


def _end(process: Process) -> None:
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()
