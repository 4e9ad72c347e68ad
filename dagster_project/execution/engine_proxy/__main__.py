"""``python -m dagster_project.execution.engine_proxy``: the command line. It reads no environment."""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dagster_project.execution.engine_proxy.body import Ours
from dagster_project.execution.engine_proxy.policy import Port
from dagster_project.execution.engine_proxy.server import EngineProxy, check

SOCKET = Path("/var/run/docker.sock")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9_./-]*(?::[0-9]+/[a-z0-9_./-]+)?(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
NOT_NETWORKS = ("host", "none", "bridge", "default", "container")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what can't be meant ends the program."""
    parser = argparse.ArgumentParser(prog="engine_proxy", description="Filtering proxy in front of the Docker socket.")
    parser.add_argument("--project", required=True, help="value of the label bindery.project that containers carry")
    parser.add_argument("--image", action="append", default=[], help="repository whose tags may run, or repository:tag")
    parser.add_argument("--network", action="append", default=[], help="network that containers may join")
    parser.add_argument("--volume", action="append", default=[], help="volume to mount; NAME:ro for read-only alone")
    parser.add_argument("--allow-gpu", choices=("no", "yes"), default="no", help="let containers ask for GPUs")
    parser.add_argument("--socket", type=Path, default=SOCKET, help="the engine's socket")
    parser.add_argument("--listen", default=None, help="address to listen at; every one unless given")
    parser.add_argument("--launch-port", type=int, default=2375, help="for who makes containers; 0: none")
    parser.add_argument("--supervise-port", type=int, default=2376, help="for who removes them; 0: none")
    parser.add_argument("--check", action="store_true", help="say whether the socket opens, and what to do if not")
    options = parser.parse_args(arguments)
    for kind in ("network", "volume"):
        for name in getattr(options, kind):
            if _NAME.fullmatch(name.removesuffix(":ro") if kind == "volume" else name) is None:
                parser.error(f"--{kind} {name}: a name, not a path")
    if wrong := set(options.network) & set(NOT_NETWORKS):
        parser.error(f"--network {min(wrong)}: a network of the project's own")
    for image in options.image:
        if _REPOSITORY.fullmatch(image) is None:
            parser.error(f"--image {image}: a repository, with or without a tag")
    if _NAME.fullmatch(options.project) is None:
        parser.error(f"--project {options.project}: the compose project's name")
    return options


def ours(options: argparse.Namespace) -> Ours:
    """Give what the command line says is ours."""
    volumes = {name.removesuffix(":ro"): not name.endswith(":ro") for name in options.volume}
    gpu = options.allow_gpu == "yes"
    return Ours(options.project, frozenset(options.image), frozenset(options.network), volumes, allow_gpu=gpu)


async def serve(options: argparse.Namespace) -> None:
    """Serve both ports until the process is asked to end."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    proxy = EngineProxy(ours(options), options.socket)
    # A process listens in every network that it is in, so compose keeps the two apart by starting one of each.
    for port, number in ((Port.LAUNCH, options.launch_port), (Port.SUPERVISE, options.supervise_port)):
        if number:
            await proxy.listen(port, number, options.listen)
    await ended.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy.

    Returns:
        Exit status: 1 where the socket can't be opened.
    """
    options = parse(arguments)
    if wrong := check(options.socket):
        print(wrong, file=sys.stderr)
        return 1
    if options.check:
        print(f"{options.socket} opens")
        return 0
    asyncio.run(serve(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
