"""A local runner over a clone of the last commit, and the registry that its jobs push to."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.docker.stack import docker, free_port, wait_for
from tests.run import ROOT

LOCAL = os.environ.get("BINDERY_GITLAB_CI_LOCAL", "")
USER = "runner"
REGISTRY_IMAGE = "registry:2"
PATIENCE_S = 900


@dataclass
class Registry:
    """A registry on loopback that asks for a login, as GitLab's does."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        import bcrypt

        hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode()
        (self.folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
        docker(
            *("run", "--detach", "--name", self.name, "--label", f"bindery.project={self.name}"),
            *("--publish", f"127.0.0.1:{self.port}:5000", "--volume", f"{self.folder}:/auth:ro"),
            *("--env", "REGISTRY_AUTH=htpasswd", "--env", "REGISTRY_AUTH_HTPASSWD_REALM=test"),
            *("--env", "REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd", REGISTRY_IMAGE),
        )
        wait_for("the registry", 30, lambda: self.ask("/v2/")[0] in {"200", "401"})

    def ask(self, path: str, *words: str, login: bool = True) -> tuple[str, str]:
        """Give the status of an answer, and its headers and body."""
        mine = ["--user", f"{USER}:{self.password}"] if login else []
        done = subprocess.run(
            ["curl", "--silent", "--include", *mine, *words, f"http://{self.address}{path}"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        head = done.stdout.partition("\r\n")[0].split()
        return (head[1] if len(head) > 1 else "none"), done.stdout

    def stop(self) -> None:
        docker("rm", "--force", "--volumes", self.name, check=False)


@dataclass
class Runner:
    """Runs jobs of the pipeline in a clone of its own."""

    clone: Path
    variables: dict[str, str]

    @classmethod
    def over(cls, folder: Path, registry: Registry) -> Runner:
        """Make a clone of the last commit, as a runner does."""
        clone = folder / "clone"
        git = ["git", "-c", "advice.detachedHead=false"]
        subprocess.run([*git, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
        subprocess.run([*git, "checkout", "--quiet", "-B", "main"], cwd=clone, check=True)
        origin = ["remote", "set-url", "origin", "git@gitlab.example:team/bindery.git"]
        subprocess.run([*git, *origin], cwd=clone, check=True)
        return cls(
            clone,
            {
                "ENGINE": "socket",
                "CI_REGISTRY": registry.address,
                "CI_REGISTRY_IMAGE": f"{registry.address}/team/bindery",
                "CI_REGISTRY_USER": USER,
                "CI_REGISTRY_PASSWORD": registry.password,
            },
        )

    @property
    def commit(self) -> str:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=self.clone, capture_output=True, text=True, check=True
        ).stdout.strip()

    def image(self, name: str) -> str:
        return f"{self.variables['CI_REGISTRY_IMAGE']}/bindery/{name}:{self.commit}"

    def run(self, *words: str, **variables: str) -> str:
        """Run jobs; gives everything that they and the runner said."""
        given = [f"--variable={name}={value}" for name, value in {**self.variables, **variables}.items()]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BINDERY_", "CI_"))}
        done = subprocess.run(
            [*shlex.split(LOCAL), *words, *given],
            cwd=self.clone,
            env={**kept, "NO_COLOR": "1", "FORCE_COLOR": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout
