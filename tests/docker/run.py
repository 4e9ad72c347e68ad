"""What ``make test-docker`` runs: the suite that needs a Docker engine, with the closing line that CI reads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.run import ROOT, Counts, counts_of

BUDGET_S = 600
"""With the images' layers in the builder's cache, on 2 cores."""


def main(arguments: Sequence[str]) -> int:
    """Run the suite in one process, since its tests share one stack; further arguments go to pytest."""
    began = time.monotonic()
    counts = Counts(failed=1)
    if (wrong := engine()) is not None:
        print(wrong)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            words = ["-p", "no:xdist", "-q", "--durations", "10", "--durations-min", "5", "--junitxml", str(report)]
            words += arguments if any("tests/" in word for word in arguments) else ["tests/docker", *arguments]
            code = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False).returncode
            if report.exists():
                counts = sum((counts_of(suite) for suite in ET.parse(report).getroot().iter("testsuite")), Counts())
                counts = counts if code == 0 or counts.failed else counts + Counts(failed=1)
    seconds = time.monotonic() - began
    print(f"load average over 1, 5, 15 minutes: {', '.join(f'{each:.1f}' for each in os.getloadavg())}")
    print(f"took {seconds:.0f} s of {BUDGET_S} s" + (", OVER BUDGET" if seconds > BUDGET_S else ""))
    print(counts, flush=True)
    return 0 if counts.good else 1


def engine() -> str | None:
    """Say what is missing, or None where an engine and compose answer."""
    for words, hint in (
        (
            ["docker", "version", "--format", "{{.Server.Version}}"],
            "no Docker engine answers: start it, or join its group",
        ),
        (["docker", "compose", "version"], "docker has no compose plugin (v2)"),
    ):
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{hint} ({error})"
        if done.returncode:
            return f"{hint} ({(done.stderr.strip() or done.stdout.strip())[-300:]})"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
