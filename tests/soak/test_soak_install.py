"""Installs killed at any moment: whatever is left behind, the next install makes it whole."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.integration.package_index import PackageIndex
from tests.integration.small_clone import UV, make_clone, make_original, make_wheels

KILLS = 60
SEED = random.SystemRandom().randrange(10**6)


@pytest.mark.timeout(600)
def test_installs_killed_at_random_moments_are_healed(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    original = make_original(tmp_path / "original", make_wheels(wheels))
    killed = 0
    with PackageIndex(wheels) as index:
        clone = make_clone(original, index, tmp_path)
        (tmp_path / "bin/uv").symlink_to(UV)
        started = time.monotonic()
        clone.install("--with", "dev")
        whole = time.monotonic() - started
        pyproject = clone.root / "pyproject.toml"
        for number in range(KILLS):
            # A change, so that there is something to install, at times with the environment gone altogether.
            pyproject.write_text(pyproject.read_text() + f"# {number}\n")
            if number % 3 == 0:
                (clone.root / ".venv").rename(tmp_path / f"old-{number}")
            with clone.start("--with", "dev") as process:
                time.sleep(moments.uniform(0, whole))
                killed += process.poll() is None
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            clone.install("--with", "dev")
            assert clone.runs() == "runs with tinylib tinylaptop\n", f"seed {SEED}, kill {number}"
            assert clone.has("tinydev"), f"seed {SEED}, kill {number}"
            assert clone.has("tinydbt", ".venv-dbt"), f"seed {SEED}, kill {number}"
    assert killed > KILLS / 3, f"seed {SEED}: only {killed} of {KILLS} kills met a running install"
