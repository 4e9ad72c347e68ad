"""dbt's JSON log, line by line: which node finished how, and what went wrong, with node, file and message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT_EVENTS = frozenset({"LogModelResult", "LogTestResult", "LogSnapshotResult", "LogSeedResult", "LogNodeResult"})
GOOD = frozenset({"success", "pass", "no-op"})
"""Statuses after which a node needn't run again."""
_ROWS = re.compile(r"^(?:SELECT|INSERT 0|MERGE|UPDATE|DELETE|COPY) (\d+)$")


@dataclass(frozen=True, slots=True)
class Finished:
    """One node's end."""

    unique_id: str
    status: str
    """``success``, ``pass``, ``warn``, ``fail``, ``error``, ``skipped``, ``no-op``."""
    seconds: float = 0.0
    rows: int | None = None
    """Rows that a model's statement wrote, where the database says so."""
    failures: int | None = None
    """Rows that a test found."""
    message: str | None = None

    @property
    def good(self) -> bool:
        """Whether the node did what it should."""
        return self.status in GOOD


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    level: str
    name: str
    message: str
    finished: Finished | None = None


def read_line(text: str) -> Line:
    """Read a line; what isn't JSON (a traceback, say) is a line of level error."""
    try:
        event = json.loads(text)
        info: dict[str, Any] = event["info"]
        data: dict[str, Any] = event.get("data") or {}
    except (ValueError, KeyError, TypeError):
        return Line("error", "", text.rstrip())
    name = str(info.get("name", ""))
    finished = _finished(data) if name in RESULT_EVENTS else None
    return Line(str(info.get("level", "info")), name, str(info.get("msg", "")), finished)


def _finished(data: dict[str, Any]) -> Finished | None:
    node = data.get("node_info") or {}
    unique_id = node.get("unique_id")
    if not unique_id:
        return None
    said = str(data.get("status", ""))
    # A model's event carries what the database said ("SELECT 12"), a test's its verdict.
    status = (
        said.lower() if said.lower() in {"pass", "warn", "fail", "error"} else str(node.get("node_status", "error"))
    )
    rows = _ROWS.match(said)
    return Finished(
        unique_id,
        status,
        seconds=float(data.get("execution_time") or 0.0),
        rows=int(rows[1]) if rows else None,
        failures=int(data["num_failures"]) if data.get("num_failures") is not None else None,
    )


def errors_in(lines: Iterable[str]) -> list[str]:
    """Give the messages of the errors of a log."""
    found = [read_line(text) for text in lines if text.strip()]
    return [line.message for line in found if line.level == "error" and line.message.strip()]


def read_results(folder: Path) -> dict[str, Finished]:
    """Read ``run_results.json``: each node's end with its message. Nothing where dbt didn't come that far."""
    try:
        results = json.loads((folder / "run_results.json").read_bytes())["results"]
    except (OSError, ValueError, KeyError):
        return {}
    return {
        result["unique_id"]: Finished(
            result["unique_id"],
            str(result["status"]).removeprefix("runtime "),
            seconds=float(result.get("execution_time") or 0.0),
            rows=_affected(result.get("adapter_response") or {}),
            failures=result.get("failures"),
            message=result.get("message"),
        )
        for result in results
    }


def _affected(response: dict[str, Any]) -> int | None:
    rows = response.get("rows_affected")
    return rows if isinstance(rows, int) and rows >= 0 else None
