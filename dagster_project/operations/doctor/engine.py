"""Docker: the engine, compose, who may use the socket, and whether there is room for the platform's containers.

Everything is asked of the programs that a person would use, so that what is found is what `docker compose up` meets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.operations.doctor.finding import Finding, fail, ok, warn
from dagster_project.operations.doctor.machine import GB, UI_PORT, check_port

if TYPE_CHECKING:
    from dagster_project.settings import Settings

LEAST_ENGINE = 25
LEAST_COMPOSE = (2, 20)
LEAST_MEMORY = 4 * GB
LEAST_DISK = 10 * GB
PATIENCE = 15
DEFAULT_SOCKET = "/var/run/docker.sock"
CONTAINER_USER = 10001
MOST_FILES = 2000
"""Looked at in the drop folder; what is readable is usually so for all of them."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program answered."""

    code: int
    out: str
    err: str


def ask(*words: str) -> Said | None:
    """Run a program and give its answer; None where there is no such program."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        return Said(126, "", str(error))
    except subprocess.TimeoutExpired:
        return Said(124, "", f"no answer within {PATIENCE} s")
    return Said(done.returncode, done.stdout.strip(), done.stderr.strip())


def check_docker(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    """Look at everything that `docker compose up` needs.

    Args:
        settings: Say where the project and the drop folder are.
        variables: What compose reads: the environment, and ``.env`` below it.
    """
    found = [check_engine(), check_compose(), check_socket(variables, settings.project_dir / "docker-compose.yml")]
    if found[0].status != "fail":
        found += check_room()
    drop = Path(variables.get("BINDERY_DROP_FOLDER") or settings.project_dir / "drop")
    return [*found, check_published_port(variables), check_drop_folder(settings.project_dir / drop)]


def check_engine() -> Finding:
    """Ask for the versions of docker's client and engine."""
    said = ask("docker", "version", "--format", "{{json .}}")
    if said is None:
        return fail(
            "docker",
            "there is no `docker` command in PATH",
            f"install Docker Engine {LEAST_ENGINE} or newer: https://docs.docker.com/engine/install",
        )
    trouble = said.err.lower()
    if "permission denied" in trouble:
        return fail(
            "docker",
            "this user may not use the engine's socket",
            "`sudo usermod -aG docker $USER`, then log in again (or `newgrp docker`); it is as good as root",
        )
    try:
        versions: dict[str, Any] = json.loads(said.out)
    except ValueError:
        versions = {}
    server = versions.get("Server") or {}
    if said.code != 0 or not server:
        reason = said.err.splitlines()[-1] if said.err else "it gives no version"
        return fail(
            "docker",
            f"the engine doesn't answer: {reason}",
            "start it: `sudo systemctl start docker` (or Docker Desktop); DOCKER_HOST, if set, must name it",
        )
    version = str(server.get("Version", ""))
    if _numbers(version) < (LEAST_ENGINE,):
        return warn("docker", f"engine {version} is old", f"update it to {LEAST_ENGINE} or newer")
    return ok("docker", f"engine {version}")


def check_compose() -> Finding:
    """Look for compose: the plugin of docker, or the program that stands alone."""
    for words, name in ((("docker", "compose"), "docker compose"), (("docker-compose",), "docker-compose")):
        said = ask(*words, "version", "--short")
        if said is None or said.code != 0:
            continue
        version = said.out.splitlines()[-1].strip() if said.out else ""
        if _numbers(version) >= LEAST_COMPOSE:
            return ok("compose", f"{name} {version}")
        return fail(
            "compose",
            f"{name} {version or '(without a version)'} is too old",
            f"install the plugin, {'.'.join(map(str, LEAST_COMPOSE))} or newer: "
            "https://docs.docker.com/compose/install/linux",
        )
    return fail(
        "compose",
        "neither `docker compose` nor `docker-compose` is there",
        "install the plugin: https://docs.docker.com/compose/install/linux (Debian, Ubuntu: docker-compose-plugin)",
    )


def check_socket(variables: Mapping[str, str], compose_file: Path) -> Finding:
    """Tell whether the engine's socket can be used: by this user, and by the container that filters what is asked."""
    host = variables.get("DOCKER_HOST", "")
    path = Path(variables.get("DOCKER_SOCKET") or DEFAULT_SOCKET)
    if host.startswith("unix://"):
        path = Path(host.removeprefix("unix://"))
    elif host and not path.exists():
        return ok("socket", "DOCKER_HOST names an engine elsewhere; compose mounts the socket of that machine")
    try:
        facts = path.stat()
    except OSError as error:
        return fail(
            "socket",
            f"{path}: {error.strerror}",
            "start the engine, or name its socket: DOCKER_SOCKET=/path/to/docker.sock",
        )
    if not stat.S_ISSOCK(facts.st_mode):
        return fail("socket", f"{path} is no socket", "DOCKER_SOCKET=/path/to/docker.sock names the engine's")
    if not os.access(path, os.R_OK | os.W_OK):
        return fail(
            "socket",
            f"{path} may be used by uid {facts.st_uid} and gid {facts.st_gid}, not by this user (uid {os.geteuid()})",
            "`sudo usermod -aG docker $USER`, then log in again (or `newgrp docker`)",
        )
    if facts.st_gid not in tried_groups(variables, compose_file) and not facts.st_mode & stat.S_IWOTH:
        return fail(
            "socket",
            f"its group is {facts.st_gid}, which the service `engine` doesn't try",
            f"add DOCKER_GID={facts.st_gid} to .env",
        )
    return ok("socket", f"{path}, group {facts.st_gid}")


def tried_groups(variables: Mapping[str, str], compose_file: Path) -> set[int]:
    """Give the groups with which the service `engine` opens the socket: those of the compose file, and DOCKER_GID."""
    import yaml

    try:
        groups = {int(variables.get("DOCKER_GID") or 0)}
    except ValueError:
        groups = set()
    try:
        services = yaml.safe_load(compose_file.read_text())["services"]
        groups |= {int(each) for each in services["engine"]["group_add"]}
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        pass
    return groups


def check_room() -> list[Finding]:
    """Ask the engine for its memory, and measure the disk that it keeps images and volumes on."""
    said = ask("docker", "info", "--format", "{{json .}}")
    try:
        info: dict[str, Any] = json.loads(said.out) if said else {}
    except ValueError:
        info = {}
    memory = int(info.get("MemTotal") or 0)
    if not memory:
        return [warn("docker room", "the engine doesn't say how much memory it has", "`docker info` says why")]
    found = []
    text = f"{memory / GB:.1f} GB of memory for containers"
    if memory < LEAST_MEMORY:
        fix = "give the machine (Docker Desktop: Settings, Resources) 4 GB or more"
        found.append(fail("docker memory", text, fix))
    else:
        found.append(ok("docker memory", text))
    root = Path(str(info.get("DockerRootDir") or "/nowhere"))
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        # Docker Desktop's is inside its virtual machine.
        return found
    text = f"{free / GB:.1f} GB free in {root}"
    fix = "`docker system df` tells what takes room; `docker image prune` removes images without a name"
    found.append(warn("docker disk", text, fix) if free < LEAST_DISK else ok("docker disk", text))
    return found


def check_published_port(variables: Mapping[str, str]) -> Finding:
    """Tell whether the one port that the platform publishes can be had."""
    text = variables.get("BINDERY_PORT") or str(UI_PORT)
    if not text.isdigit() or not 0 < int(text) < 65536:
        return fail(f"port {text}", "BINDERY_PORT is no port", "give a number from 1 to 65535")
    bind = variables.get("BINDERY_BIND") or "127.0.0.1"
    fix = "end that program, or choose another port: BINDERY_PORT=3001 in .env"
    found = check_port(int(text), "platform's UI", fix, bind)
    if found.status != "ok" and (project := publisher(text)):
        return ok("published port", f"{text}: the project {project} publishes it")
    # The engine opens it, as root: what this user may is no matter.
    if "needs more rights" in found.said:
        return ok("published port", f"{text}, for the platform's UI")
    return replace(found, check="published port", said=f"{text}: {found.said}")


def publisher(port: str) -> str:
    """Give the compose project of ours whose container publishes a port, or nothing."""
    filters = ("--filter", "label=bindery.project", "--filter", f"publish={port}")
    said = ask("docker", "ps", *filters, "--format", '{{.Label "bindery.project"}}')
    return said.out.splitlines()[0] if said is not None and said.code == 0 and said.out else ""


def check_drop_folder(folder: Path) -> Finding:
    """Tell whether the user of the containers can read what people drop, seen from this side of the mount."""
    if not folder.is_dir():
        return fail("drop folder", f"{folder} isn't there", f"`mkdir -p {folder}`; compose mounts it")
    closed = [path for path in _some(folder) if not _may_read(path)]
    if not closed:
        return ok("drop folder", f"{folder} is readable for user {CONTAINER_USER}")
    more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
    return fail(
        "drop folder",
        f"{closed[0]}{more} can't be read by user {CONTAINER_USER}, whom the containers run as",
        f"`chmod -R a+rX {folder}`",
    )


def _some(folder: Path) -> list[Path]:
    found = [folder]
    for path in folder.rglob("*"):
        if len(found) > MOST_FILES:
            break
        if not path.is_symlink():
            found.append(path)
    return found


def _may_read(path: Path) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    needed = 0o5 if stat.S_ISDIR(facts.st_mode) else 0o4
    if facts.st_uid == CONTAINER_USER:
        return (facts.st_mode >> 6) & needed == needed
    if facts.st_gid == CONTAINER_USER:
        return (facts.st_mode >> 3) & needed == needed
    return facts.st_mode & needed == needed


def _numbers(version: str) -> tuple[int, ...]:
    match = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()
