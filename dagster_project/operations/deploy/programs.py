"""Starting Terraform, Docker and git: what they print is passed on, and their failure becomes one error."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dagster_project.operations.deploy.errors import DeployError

FIXES = {
    "terraform": "https://developer.hashicorp.com/terraform/install has it (1.11 or newer)",
    "docker": "https://docs.docker.com/engine/install has it",
    "aws": "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html has it",
    "session-manager-plugin": "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
    "session-manager-working-with-install-plugin.html has it",
}


@dataclass(frozen=True)
class Programs:
    """Where programs are started, and with which variables. Tests give one that remembers what it was asked."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, typed: str | None = None, quiet: bool = False) -> None:
        """Run a program to its end; its output goes to the terminal.

        Args:
            words: Program and arguments.
            typed: What it reads from standard input.
            quiet: Show its output only if it fails.

        Raises:
            DeployError: It isn't there, or ended with an error.
        """
        done = self._start(words, typed, capture=quiet)
        if done.returncode:
            said = f":\n{(done.stdout or '')}{(done.stderr or '')}".rstrip(":\n") if quiet else ", see above"
            raise DeployError(f"`{shown(words)}` ended with {done.returncode}{said}")

    def ask(self, *words: str) -> str:
        """Run a program and give what it prints.

        Raises:
            DeployError: It isn't there, or ended with an error.
        """
        done = self._start(words, None, capture=True)
        if done.returncode:
            raise DeployError(f"`{shown(words)}` ended with {done.returncode}:\n{(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _start(self, words: Sequence[str], typed: str | None, *, capture: bool) -> subprocess.CompletedProcess[str]:
        if shutil.which(words[0], path=self.environment.get("PATH")) is None:
            raise DeployError(f"there is no {words[0]} here: {FIXES.get(words[0], 'install it')}")
        return subprocess.run(
            list(words),
            cwd=self.folder,
            env=dict(self.environment) or None,
            input=typed,
            stdin=None if typed is not None or not capture else subprocess.DEVNULL,
            capture_output=capture,
            text=True,
            check=False,
        )


def shown(words: Sequence[str]) -> str:
    """Write a command for people, without what makes it long."""
    kept = [word for word in words if not word.startswith(("-var", "-backend-config", "-target"))]
    return " ".join(kept)
