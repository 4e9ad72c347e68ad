"""What the warehouse's tables hold, as numbers that two installations can be compared by.

``python -m tests.tables write FILE`` on a laptop, ``python -m tests.tables compare FILE`` beside the containers: every
table's rows are counted and summed up, without lineage (loads, moments) and without where the sample world listened.
CI runs the second in the image of tests, on the platform's network, after ``wait URL`` has seen the first run's end.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Rows = Callable[[str], Sequence[Sequence[Any]]]
SCHEMAS = ("raw", "snapshots", "staging", "intermediate", "marts", "features")
LINEAGE = (
    *("_load_id", "load_id", "landing_id", "quarantine_id", "created_at", "loaded_at", "row_number"),
    *("dbt_valid_from", "dbt_valid_to", "dbt_updated_at", "dbt_scd_id"),
    *("valid_from", "valid_to", "first_seen_at", "delisted_at"),
)
"""Columns that say when and by which load; everything else is the same wherever it is made."""
TABLES = (
    "select schemaname, tablename from pg_tables where schemaname in ("
    + ", ".join(f"'{schema}'" for schema in SCHEMAS)
    + ") order by 1, 2"
)
LEAST = 10
"""Fewer tables than this are no graph."""
PATIENCE_S = 600
FIRST_RUN = "pipeline_with_scraping"
RUNS = "{ runsOrError(limit: 100) { ... on Runs { results { runId jobName status } } } }"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


def sums(rows: Rows) -> dict[str, list[int]]:
    """Give each table's number of rows and the sum over them, by ``schema.table``."""
    without = "array[" + ", ".join(f"'{name}'" for name in LINEAGE) + "]::text[]"
    host = r"'https?://[^/]+/(shop/|api/)?', ''"
    found: dict[str, list[int]] = {}
    for schema, table in rows(TABLES):
        query = (
            "select count(*), coalesce(sum(hashtext(regexp_replace("
            f'(to_jsonb(t) - {without})::text, {host}, \'g\'))::bigint), 0)::bigint from "{schema}"."{table}" t'
        )
        found[f"{schema}.{table}"] = [int(value) for value in rows(query)[0]]
    return found


def differences(here: dict[str, list[int]], there: dict[str, list[int]]) -> list[str]:
    """Say of each table what is different; nothing where all are the same."""
    said = []
    for name in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(name), there.get(name)
        if ours is None or theirs is None:
            said.append(f"{name}: only {'there' if ours is None else 'here'}")
        elif ours[0] != theirs[0]:
            said.append(f"{name}: {ours[0]} rows here, {theirs[0]} there")
        elif ours != theirs:
            said.append(f"{name}: {ours[0]} rows on both sides, but not the same")
    if min(len(here), len(there)) < LEAST:
        said.append(f"{len(here)} tables here, {len(there)} there: that is no graph")
    return said


def wait(url: str, seconds: float = PATIENCE_S, pause: float = 2.0) -> str:
    """Wait until the first run of a new platform, and every run that followed it, has ended.

    Args:
        url: Of Dagster's GraphQL.
        seconds: How long at most.
        pause: Between two questions.

    Returns:
        What is wrong; nothing where every run succeeded.
    """
    deadline, said, seen = time.monotonic() + seconds, "nobody answered", 0
    while time.monotonic() < deadline:
        time.sleep(pause)
        try:
            body = json.dumps({"query": RUNS}).encode()
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                runs = json.load(answer)["data"]["runsOrError"]["results"]
        except (OSError, ValueError, KeyError) as error:
            said = f"{url} doesn't answer: {error}"
            continue
        said = ", ".join(f"{run['jobName']} {run['status']}" for run in runs) or "no run yet"
        first = [run for run in runs if run["jobName"] == FIRST_RUN]
        # Twice in a row: what a run makes stale is launched a moment after its end.
        seen = seen + 1 if first and all(run["status"] in ENDED for run in runs) else 0
        if seen == 2:
            print(f"runs: {said}", flush=True)
            return "" if all(run["status"] == "SUCCESS" for run in runs) else said
    return f"after {seconds:.0f} s: {said}"


def main(arguments: Sequence[str]) -> int:
    """Write this installation's numbers to a file, compare them with a file's, or wait for a platform's first run."""
    from dagster_project.settings import get_settings
    from dagster_project.warehouse.connection import connect_admin

    if len(arguments) != 2 or arguments[0] not in {"write", "compare", "wait"}:
        print("usage: python -m tests.tables write|compare FILE, or wait URL", file=sys.stderr)
        return 2
    if arguments[0] == "wait":
        wrong = wait(arguments[1])
        if wrong:
            print(wrong, file=sys.stderr)
        return 1 if wrong else 0
    action, path = arguments[0], Path(arguments[1])
    settings = get_settings()
    with connect_admin(settings, settings.database_name) as connection:
        here = sums(lambda query: connection.execute(query).fetchall())
    if action == "write":
        path.write_text(json.dumps(here, indent=1) + "\n", encoding="utf-8")
        print(f"{len(here)} tables, {sum(count for count, _ in here.values())} rows: {path}")
        return 0 if len(here) >= LEAST else 1
    different = differences(here, json.loads(path.read_text(encoding="utf-8")))
    rows = sum(count for count, _ in here.values())
    print("\n".join(different) or f"{len(here)} tables, {rows} rows, the same as {path}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
