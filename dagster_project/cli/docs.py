"""``make docs``: writes the generated pages anew. Tests compare the committed pages with the same functions."""

from __future__ import annotations

import subprocess
import sys

GENERATORS = (
    [sys.executable, "-m", "dagster_project.settings", "--write"],
    [sys.executable, "-m", "dagster_project.ingest.cards.schema", "docs"],
)


def main() -> None:
    """Run every generator."""
    for command in GENERATORS:
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
