"""The ``bindery`` command: one thin function per subcommand, each imported only when it is called.

What the commands do lives in the engine, the warehouse and operations; here are their words, options, tables, progress
and exit codes, which docs/loading.md lists.
"""

from __future__ import annotations

from dagster_project.cli.main import main

__all__ = ["main"]
