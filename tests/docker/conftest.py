"""One stack for all tests of this folder, and the order they run in: what it is like first, what breaks it last."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.stack import FINISHED, TAG, Stack, docker, events_of, free_port, wait_for

ORDER = (
    "images",
    "start",
    "first_run",
    "doors",
    "browser",
    "roles",
    "doctor",
    "backup",
    "probe",
    "soak_probe",
    "restart",
    "engine_proxy",
    "ecs",
)
REUSED = os.environ.get("BINDERY_TEST_STACK", "")
"""``project:port:drop folder`` of a stack that is up, for whoever writes these tests; it is left as it is."""
collect_ignore = [] if os.environ.get("BINDERY_TEST_BROWSER") else ["test_browser.py"]
"""Not every machine with an engine has a browser: `make test-browser`, or `make test-docker BROWSER=1`."""
if not os.environ.get("BINDERY_TEST_SOAK"):
    collect_ignore += ["test_soak_probe.py"]  # minutes each: `make soak-docker`
PROBE = Path(__file__).parent / "probe"
_figures: dict[str, str] = {}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order of files named here: they share one stack."""

    def place(item: pytest.Item) -> int:
        return next((index for index, name in enumerate(ORDER) if item.path.stem == f"test_{name}"), len(ORDER))

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured."""
    for name, value in _figures.items():
        terminalreporter.write_line(f"{name:45} {value}")


@pytest.fixture(scope="session")
def figures() -> dict[str, str]:
    """Measured values by name, printed at the end."""
    return _figures


@pytest.fixture(scope="session")
def images(figures: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Both images, built as `docker compose build` does."""
    began = time.monotonic()
    Stack(f"bt{os.getpid()}", 1, tmp_path_factory.mktemp("build")).compose("build")
    figures["build of both images (layers may be cached)"] = f"{time.monotonic() - began:.1f} s"
    return f"bindery/dagster:{TAG}", f"bindery/dbt:{TAG}"


@pytest.fixture(scope="session")
def stack(
    images: tuple[str, str], figures: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The platform, up and answering."""
    folder = tmp_path_factory.mktemp("stack")
    if REUSED:
        name, port, drop = REUSED.split(":")
        yield Stack(name, int(port), Path(drop).parent, figures)
        return
    made = Stack(f"bt{os.getpid()}", free_port(), folder, figures)
    for name in ("sample", "ratings"):
        (made.drop / name).mkdir(parents=True)
    # Another user reads it, the one in the containers; of what is above only this name is mounted.
    for path in (made.drop, *made.drop.iterdir()):
        path.chmod(0o755)
    watching = events_of(made.project, folder / "events.jsonl")
    try:
        figures["up to every service healthy"] = f"{made.up():.1f} s"
        wait_for("the UI answers", 30, made.answers)
        made.answered_at = time.monotonic()
        yield made
    finally:
        (folder / "logs.txt").write_text(made.compose("logs", "--no-color", check=False))
        made.remove()
        watching.terminate()
        watching.wait(10)


@pytest.fixture(scope="session")
def probe(stack: Stack) -> Stack:
    """The same stack with a code location beside the shipped one: small jobs, made to be broken."""
    image = f"bindery/dagster:{TAG}-probe"
    subprocess.run(
        ["docker", "build", "--quiet", "--build-arg", f"BASE=bindery/dagster:{TAG}", "-t", image, str(PROBE)],
        check=True,
        capture_output=True,
    )
    stack.files.append(PROBE / "compose.yaml")
    stack.variables["PROBE"] = str(PROBE)
    stack.compose("up", "-d", "--no-build")
    wait_for("every service healthy", 90, stack.healthy)
    wait_for("the UI answers", 30, stack.answers)
    wait_for("the probe's code location", 60, lambda: stack.loaded("probe"))
    # The shipped graph's own runs would be counted among what tests leave behind.
    wait_for("quiet", 400, lambda: stack.runs() and all(run["status"] in FINISHED for run in stack.runs()))
    return stack


@pytest.fixture
def nothing_left(stack: Stack) -> Iterator[None]:
    """After the test no container of a run or step is there."""
    yield
    wait_for("containers removed", 90, lambda: not stack.containers(ended=True))
    assert docker("ps", "-q", "--filter", f"name={stack.project}-step") == ""
