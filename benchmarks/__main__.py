"""``python -m benchmarks``: run the programs one after the other and print text, or one JSON document.

python -m benchmarks [--json] [--repeat N] [--scale F] [NAME]...
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from benchmarks.cluster import own_environment, postgres_version
from benchmarks.measure import Figure, Options, document, hardware, text

PROGRAMS = ("code_location", "load_files", "load_rest", "make_run")
"""What runs where no program is named."""
MORE = ("docker", "peers")
"""What needs more than the installation."""


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the installed platform.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(PROGRAMS)} (all of these by default), {', '.join(MORE)}",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--repeat", type=int, default=3, help="how often each thing is measured (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the inputs' size (default: 1)")
    asked = parser.parse_args()
    if unknown := set(asked.names) - {*PROGRAMS, *MORE}:
        parser.error(f"no program {', '.join(sorted(unknown))}: there are {', '.join((*PROGRAMS, *MORE))}")
    real = os.environ.get("BINDERY_REAL_DATA")
    options = Options(asked.scale, asked.repeat, Path(real).resolve() if real and asked.scale >= 1 else None)
    own_environment()
    # A plain end would leave servers and folders behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = {**hardware(), "postgres": postgres_version()}
    figures: list[Figure] = []
    for name in asked.names or PROGRAMS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += importlib.import_module(f"benchmarks.{name}").measure(options)
    print(document(machine, figures, options) if asked.json else text(machine, figures))


if __name__ == "__main__":
    main()
