"""``python -m dagster_project.settings``: print or write the pages that are generated from the settings."""

from __future__ import annotations

import sys
from pathlib import Path

from dagster_project.settings.pages import env_example, markdown

USAGE = "usage: python -m dagster_project.settings --env-example | --markdown | --write"


def main(arguments: list[str]) -> int:
    """Print or write the pages."""
    root = Path(__file__).parents[2]
    match arguments:
        case ["--env-example"]:
            print(env_example(), end="")
        case ["--markdown"]:
            print(markdown(), end="")
        case ["--write"]:
            (root / ".env.example").write_text(env_example(), encoding="utf-8")
            (root / "docs" / "settings.md").write_text(markdown(), encoding="utf-8")
        case _:
            print(USAGE)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
