"""What ``make test-gitlab`` runs: the pipeline's structure and scripts, then its jobs in a local runner.

``BINDERY_GITLAB_CI_LOCAL`` is the command of gitlab-ci-local (github.com/firecow/gitlab-ci-local), with the options
that this machine needs: the engine's socket in every job, other images where the pipeline's can't be pulled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.docker.run import engine
from tests.run import ROOT, Counts, counts_of

BUDGET_S = 240
"""With the images' layers in the builder's cache, on 2 cores."""
SUITES = ("tests/unit/test_gitlab_pipeline.py", "tests/unit/test_gitlab_scripts.py", "tests/gitlab")
MISSING = (
    "BINDERY_GITLAB_CI_LOCAL isn't set: the command of a local runner, as in "
    "'gitlab-ci-local --volume /var/run/docker.sock:/var/run/docker.sock' (npm install -g gitlab-ci-local)"
)


def main(arguments: Sequence[str]) -> int:
    """Run the suite in one process, since its tests share one pipeline; further arguments go to pytest."""
    began = time.monotonic()
    counts = Counts(failed=1)
    wrong = engine() or ("" if os.environ.get("BINDERY_GITLAB_CI_LOCAL") else MISSING)
    if wrong:
        print(wrong)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            words = ["-p", "no:xdist", "-q", "--durations", "5", "--durations-min", "5", "--junitxml", str(report)]
            words += arguments if any("tests/" in word for word in arguments) else [*SUITES, *arguments]
            code = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False).returncode
            if report.exists():
                counts = sum((counts_of(suite) for suite in ET.parse(report).getroot().iter("testsuite")), Counts())
                counts = counts if code == 0 or counts.failed else counts + Counts(failed=1)
    seconds = time.monotonic() - began
    print(f"took {seconds:.0f} s of {BUDGET_S} s" + (", OVER BUDGET" if seconds > BUDGET_S else ""))
    print(counts, flush=True)
    return 0 if counts.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
