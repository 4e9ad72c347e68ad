"""The compiled statements of a call of dbt that failed: its folder is temporary, and dbt's errors point into it.

On a person's machine the statements are kept below the data directory, and the errors point there. A container's disk
goes with the container: there the statement itself belongs into the step's log.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.settings import Settings

KEPT = 20
"""Failed calls whose statements are kept; older ones go."""
_MADE = ("compiled", "run")
"""Folders in which dbt writes statements."""
_LONGEST = 20_000


class CompiledCode:
    """The statements of one call, before and after its folder is gone."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._folder = folder
        self._root = settings.data_dir / "dbt" / "failed"
        self._kept: Path | None = None if settings.in_containers else self._root / folder.name
        if self._kept is not None:
            try:
                self._root.mkdir(parents=True, exist_ok=True)
            except OSError:  # a read-only file system
                self._kept = None

    def told(self, text: str) -> str:
        """Give dbt's words with the path under which a statement will still be there; without one where none will."""
        if self._kept is not None:
            return text.replace(str(self._folder), str(self._kept))
        return re.sub(
            rf"compiled code at {re.escape(str(self._folder))}\S*", "its statement is in the step's log", text
        )

    def keep(self) -> None:
        """Keep the statements of a call that failed, while its folder is still there."""
        if self._kept is None:
            return
        with contextlib.suppress(OSError):
            self._kept.mkdir(exist_ok=True)
            for name in _MADE:
                if (self._folder / name).is_dir():
                    shutil.copytree(self._folder / name, self._kept / name, dirs_exist_ok=True)
            self._kept.touch()  # the newest, whatever its copied parts say
            older = sorted(self._root.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]
            for path in older:
                shutil.rmtree(path, ignore_errors=True)

    def statement(self, path: str) -> str | None:
        """Give the statement of a model or test for the log; None where it is kept as a file, or there is none.

        Args:
            path: The node's file in the project.
        """
        if self._kept is not None:
            return None
        for name in _MADE:
            for found in sorted((self._folder / name).glob(f"*/{path}")):
                with contextlib.suppress(OSError):
                    return found.read_text(encoding="utf-8")[:_LONGEST]
        return None
