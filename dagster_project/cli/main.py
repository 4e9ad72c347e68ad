"""The command's root: which subcommands there are, and how an error becomes one clear message and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

SUBCOMMANDS = {
    "run": "dagster_project.cli.run:run",
    "check": "dagster_project.cli.cards:check",
    "preview": "dagster_project.cli.cards:preview",
    "new": "dagster_project.cli.scaffold:new",
    "schema": "dagster_project.cli.cards:schema",
    "replay": "dagster_project.cli.run:replay",
    "quarantine": "dagster_project.cli.inspect:quarantine",
    "state": "dagster_project.cli.inspect:state",
    "loads": "dagster_project.cli.inspect:loads",
    "landing": "dagster_project.cli.landing:landing",
    "inbox": "dagster_project.cli.inbox:inbox",
    "dbt": "dagster_project.cli.platform:dbt",
    "dev": "dagster_project.cli.platform:dev",
    "world": "dagster_project.cli.platform:world",
    "prove": "dagster_project.cli.prove:prove",
    "db": "dagster_project.cli.db:db",
    "secrets": "dagster_project.cli.installation:secrets",  # pragma: allowlist secret
    "launch": "dagster_project.cli.launch:launch",
    "relaunch": "dagster_project.cli.relaunch:relaunch",
    "backup": "dagster_project.cli.backup:backup",
    "restore": "dagster_project.cli.backup:restore",
    "retention": "dagster_project.cli.retention:retention",
    "doctor": "dagster_project.cli.doctor:doctor",
    "alert": "dagster_project.cli.alert:alert",
    "deploy": "dagster_project.cli.deploy:deploy",
}
"""Subcommand -> ``module:function``. Importing one costs what it needs, and no other subcommand pays for it."""


_LONGEST_HELP = 1000
"""Characters of a subcommand's summary: more than any has."""


class LazyGroup(click.Group):
    """A group whose subcommands are imported on use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Name every subcommand, in the order of the table."""
        return list(SUBCOMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import one subcommand."""
        target = SUBCOMMANDS.get(name)
        if target is None:
            return None
        module, function = target.split(":")
        command = getattr(importlib.import_module(module), function)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands, each with its whole first sentence: wrapped, where click would cut it."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, found.get_short_help_str(_LONGEST_HELP)) for name, found in commands if found is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; turn the platform's own errors into their message and exit code."""
        try:
            return super().main(*args, **kwargs)
        except (SystemExit, KeyboardInterrupt):
            raise
        except Exception as error:
            code = exit_code(error)
            if code is None:
                raise
            said = "\n".join([str(error), *getattr(error, "__notes__", [])])
            click.secho(f"error: {said}", fg="red", err=True)
            sys.exit(code)


def exit_code(error: BaseException) -> int | None:
    """Give the exit code of an error raised on purpose, or None for a fault of ours, which keeps its traceback."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    if "psycopg" in sys.modules:
        import psycopg

        if isinstance(error, psycopg.Error):
            return 5
    return None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="bindery", prog_name="bindery")
def main() -> None:
    """Turn APIs, web pages and dropped files into trusted Postgres tables.

    `bindery run` materialises the whole graph. `bindery run SOURCE` fetches and loads one source; `bindery run --card
    FILE` does so for a card that stands alone, without Dagster. Exit codes: 0 done, 1 unexpected or interrupted, 2 bad
    card or setting, 3 source failure, 4 data refused, 5 database failure.
    """
