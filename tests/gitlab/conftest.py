"""One pipeline for all tests of this folder: its first jobs, run once on a clone of the last commit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.stack import docker
from tests.gitlab.runner import Registry, Runner

collect_ignore: list[str] = []
if not os.environ.get("BINDERY_TEST_SOAK"):
    collect_ignore += ["test_soak_jobs.py"]  # minutes each: `make soak-gitlab`
INSIDE = "tests/contract tests/unit/test_types.py tests/unit/test_parse_csv.py tests/integration/test_load_merge.py"
"""A part of what CI tests inside the image: rows from bytes to tables."""


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    found = Registry(f"bt{os.getpid()}-ci-registry", tmp_path_factory.mktemp("registry"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def runner(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    found = Runner.over(tmp_path_factory.mktemp("runner"), registry)
    yield found
    for name in ("dagster", "dbt", "test"):
        docker("image", "rm", found.image(name), check=False)


@pytest.fixture(scope="session")
def said(runner: Runner) -> str:
    """What the first jobs said: lint of files, build, and the tests inside the image."""
    return runner.run("lint:files", "build", "test:image", TESTS=INSIDE)


@pytest.fixture(scope="session")
def built(said: str, runner: Runner) -> dict[str, str]:
    """Images that the pipeline built, by their short name."""
    assert said
    return {name: runner.image(name) for name in ("dagster", "dbt", "test")}


@pytest.fixture(scope="session")
def bills(built: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bill of materials of each image."""
    folder = tmp_path_factory.mktemp("sbom")
    found = {name: folder / f"{name}.cdx.json" for name in ("dagster", "dbt")}
    for name, path in found.items():
        words = [".venv/bin/python", "tools/sbom.py", built[name], str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    return found
