"""The ``bindery`` command: one thin function per subcommand, each imported only when it is called.

What the commands do lives in the engine, the warehouse and operations; here are their words, options, tables, progress
and exit codes: 0 done, 1 unexpected or interrupted, 2 bad card or setting, 3 source failure, 4 data refused, 5 database
failure.
"""

from __future__ import annotations

from dagster_project.cli.main import main

__all__ = ["main"]
