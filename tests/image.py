"""What CI runs inside the image that it built: ``python -m tests.image``, with the closing line that CI reads.

The image is production's and the tests (``test`` in Dockerfile.dagster): no clone, no git, no dbt, no compiler, a user
without rights. What looks at the clone, installs, or starts dbt is tested outside; everything else is tested here, on
the packages, the Python and the C library that production has. ``BINDERY_TEST_DATABASE_URL`` names the Postgres to use.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.run import ROOT, Counts, counts_of

SUITES = ("tests/unit", "tests/contract", "tests/integration")
OUTSIDE = {
    "looks at the clone: its documents, its Dockerfiles, its lock": (
        *("unit/test_containers.py", "unit/test_images.py", "unit/test_install_pip_settings.py"),
        *("unit/test_repository_documents.py", "unit/test_repository_files.py", "unit/test_repository_packages.py"),
        *("unit/test_gitlab_pipeline.py", "unit/test_gitlab_scripts.py"),
        *("unit/test_sample_docs.py", "unit/test_settings_pages.py", "integration/test_benchmarks.py"),
        "unit/test_ecs_image.py",
    ),
    "speaks to what stands in for AWS, which is in no image": ("integration/test_ecs_run.py",),
    "installs, or calls make, or looks for what a laptop should have": (
        *("integration/test_install.py", "integration/test_install_offline.py", "integration/test_make_targets.py"),
        *("unit/test_doctor.py", "integration/test_doctor_database.py"),
    ),
    "starts the Postgres of a laptop": (
        *("integration/test_embedded_kills.py", "integration/test_embedded_places.py"),
        *("integration/test_embedded_server.py", "integration/test_warehouse_bootstrap.py"),
        "integration/test_warehouse_cli.py",
    ),
    "starts dbt, which is in its own image alone": (
        *("integration/test_dagster_dbt.py", "integration/test_dbt_preloaded.py"),
        "integration/test_run_everything.py",
    ),
}
"""Why not here -> files. Single tests are left out by name below."""
SINGLE = (
    "tests/integration/test_kill_load.py::test_a_server_killed_under_a_load_is_told_in_words_and_the_next_load_goes_on",
    "tests/contract/test_cards.py::test_an_editor_finds_the_schema",
    "tests/unit/test_cards_read.py::test_the_published_schema_and_reference_are_current",
    "tests/unit/test_definitions_parts.py::test_the_guide_s_asset_is_one",
)
"""The first kills its server; the others read one page of the clone."""


def main(arguments: Sequence[str]) -> int:
    """Run the suites; further arguments go to pytest, and paths among them replace the suites."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(os.environ.get("JUNIT_XML") or Path(folder) / "report.xml")
        done = subprocess.run(command(arguments, report), cwd=ROOT, check=False)
        if not report.exists():
            print(Counts(failed=1), flush=True)
            return 1
        counts = sum((counts_of(suite) for suite in ET.parse(report).getroot().iter("testsuite")), Counts())
    counts = counts if done.returncode == 0 or counts.failed else counts + Counts(failed=1)
    print(counts, flush=True)
    return 0 if counts.good else 1


def command(arguments: Sequence[str], report: Path) -> list[str]:
    """Give pytest's command line."""
    chosen = [] if any(word.startswith("tests/") for word in arguments) else list(SUITES)
    without = [f"--ignore=tests/{name}" for names in OUTSIDE.values() for name in names]
    without += [f"--deselect={name}" for name in SINGLE]
    workers = str(min(os.cpu_count() or 1, 4))
    options = ["-p", "no:cacheprovider", "-n", workers, "--dist", "loadfile", "-q", "--junitxml", str(report)]
    return [sys.executable, "-m", "pytest", *options, *without, *arguments, *chosen]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
