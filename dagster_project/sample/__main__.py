"""`python -m dagster_project.sample`: serve the sample world, write its drop folder, count it, extract its data.

This package reads no environment: everything comes as arguments.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path

from dagster_project.sample.world import DEFAULT_SEED, World


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dagster_project.sample", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    world = argparse.ArgumentParser(add_help=False)
    world.add_argument("--revision", type=int, default=1)
    world.add_argument("--scale", type=float, default=1.0)
    world.add_argument("--seed", type=int, default=DEFAULT_SEED)

    serve = commands.add_parser("serve", parents=[world], help="serve the catalogue API and the bookshop")
    serve.add_argument("--port", type=int, default=0, help="0 takes a free one")
    serve.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 in a container")
    serve.add_argument("--drops", type=Path, help="write the rating files into <folder>/ratings first")
    serve.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    serve.add_argument("--instance", default="foreground", help=argparse.SUPPRESS)
    serve.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    serve.add_argument("--log", type=Path, help=argparse.SUPPRESS)

    drops = commands.add_parser("drops", parents=[world], help="write the rating files into <folder>/ratings")
    drops.add_argument("folder", type=Path)

    commands.add_parser("summary", parents=[world], help="print how much of everything there is, as JSON")

    extract = commands.add_parser("extract", help="make data/works.jsonl again from Project Gutenberg's pg_catalog.csv")
    extract.add_argument("catalogue", type=Path)
    extract.add_argument("target", type=Path)

    options = parser.parse_args(arguments)
    if options.command == "extract":
        from dagster_project.sample.extract import extract as run_extract

        print(f"{run_extract(options.catalogue, options.target)} works in {options.target}")
        return 0
    try:
        built = World(options.revision, options.scale, options.seed)
    except ValueError as error:
        parser.error(str(error))
    if options.command == "serve":
        return _serve(options, built)
    if options.command == "drops":
        from dagster_project.sample.drops import write_drops

        report = write_drops(options.folder, options.revision, options.scale, options.seed)
        print(f"{report.folder}: {len(report.written)} files written, {len(report.unchanged)} unchanged")
        return 0
    print(json.dumps(built.summary(), indent=2))
    return 0


def _serve(options: argparse.Namespace, world: World) -> int:
    from dagster_project.sample.endpoint import bind
    from dagster_project.sample.server import detach, serve

    try:
        listener = socket.socket(fileno=options.fd) if options.fd is not None else bind(options.port, options.host)
    except OSError as error:
        print(f"port {options.port} on {options.host}: {error.strerror}; choose another with --port", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    if options.drops is not None:
        from dagster_project.sample.drops import write_drops

        write_drops(options.drops, options.revision, options.scale, options.seed)
    if options.log is not None:
        detach(options.log)
    serve(
        listener,
        world,
        options.instance,
        options.state,
        lambda: print(
            f"sample world, revision {world.revision}: http://{options.host}:{port}/", file=sys.stderr, flush=True
        ),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
