"""What ``make test-aws`` runs: the suite against servers that stand in for AWS, with the closing line that CI reads."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.run import ROOT, Counts, counts_of

BUDGET_S = 420
"""On 2 cores."""


def main(arguments: Sequence[str]) -> int:
    """Run the suite in two processes, each with a server of its own; further arguments go to pytest."""
    began = time.monotonic()
    counts = Counts(failed=1)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-n", "2", "--dist", "loadfile", "-q", "--durations", "10", "--durations-min", "5"]
        words += ["--junitxml", str(report)]
        words += arguments if any("tests/" in word for word in arguments) else ["tests/aws", *arguments]
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
