"""What is deployed: a release, named after the version and the commit, and its two images by digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass

from dagster_project.operations.deploy.errors import DeployRefusedError
from dagster_project.operations.deploy.programs import Programs

IMAGES = {"dagster": "Dockerfile.dagster", "dbt": "Dockerfile.dbt"}
"""Image -> the file that says how it is made."""


@dataclass(frozen=True)
class Release:
    """Images that belong together."""

    name: str
    images: dict[str, str]
    """Image -> ``<repository>@sha256:<digest>``."""


def release_name(programs: Programs, *, changed_too: bool) -> str:
    """Name the checkout: ``0.1.0-1a2b3c4d5e6f``.

    Args:
        programs: Starts git in the checkout.
        changed_too: Whether changes that aren't committed may be deployed; the name then holds a hash of them.

    Raises:
        DeployRefusedError: There are such changes, and they may not.
    """
    version = importlib.metadata.version("bindery")
    commit = programs.ask("git", "rev-parse", "--short=12", "HEAD").strip()
    changes = programs.ask("git", "status", "--porcelain", "--untracked-files=all")
    if not changes.strip():
        return f"{version}-{commit}"
    if not changed_too:
        listed = "\n".join(changes.splitlines()[:8])
        raise DeployRefusedError(
            f"the checkout has changes that no commit has, so nobody could build this release again:\n{listed}\n"
            "Commit them, or deploy them with --changed"
        )
    digest = hashlib.sha256(changes.encode() + programs.ask("git", "diff", "HEAD", "--binary").encode())
    for line in changes.splitlines():
        if line.startswith("??"):
            path = programs.folder / line[3:].strip('"')
            digest.update(path.read_bytes() if path.is_file() else b"")
    return f"{version}-{commit}-changed-{digest.hexdigest()[:8]}"
