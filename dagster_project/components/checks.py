"""The checks that a card implies for each of its streams, emitted by the op that loads: never a step of their own.

Bounds that a load breaks are refused by the engine before it commits (nothing is kept, the step fails); the checks
here judge the table as it is after the load, so that they also speak when a load brought nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.components.facts import rate
from dagster_project.ingest.cards.base import SourceCard, StreamCard

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.load.report import StreamLoad

ROWS = "rows_within_bounds"
REFUSED = "refused_rows_within_bounds"
NULLS = "values_present"
DRIFT = "schema_unchanged"
FRESH = "fetched_on_time"

_DESCRIPTIONS = {
    ROWS: "The table has as many rows as the card expects (`expect.min_rows`, `expect.max_rows`).",
    REFUSED: "No more rows were refused than the card allows (`max_quarantined`, `max_quarantined_rate`).",
    NULLS: "No column has more NULLs than the card allows (`expect.max_null_rate`).",
    DRIFT: "The load neither added a column nor widened one.",
    FRESH: "The newest complete fetch is no older than twice the schedule's interval.",
}


def check_specs(card: SourceCard, stream: StreamCard, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """List the checks of a stream; those that can fail with an error block what is downstream."""
    names = [REFUSED]
    if stream.expect.min_rows is not None or stream.expect.max_rows is not None:
        names.append(ROWS)
    if stream.expect.max_null_rate:
        names.append(NULLS)
    warnings = [DRIFT, *([FRESH] if card.schedule is not None else [])]
    return [
        dg.AssetCheckSpec(name, asset=key, description=_DESCRIPTIONS[name], blocking=name not in warnings)
        for name in [*names, *warnings]
    ]


def judge(
    cursor: psycopg.Cursor[Any], card: SourceCard, stream: StreamCard, loaded: StreamLoad | None, key: dg.AssetKey
) -> Iterator[dg.AssetCheckResult]:
    """Judge a stream after its load; ``loaded`` is None where nothing was there to load."""
    expect = stream.expect
    yield _judge_refused(stream, loaded, key)
    if expect.min_rows is not None or expect.max_rows is not None:
        yield _judge_rows(cursor, card, stream, key)
    if expect.max_null_rate:
        yield _judge_nulls(cursor, card, stream, key)
    yield _judge_drift(cursor, card, stream, loaded, key)
    if card.schedule is not None:
        yield _judge_freshness(cursor, card, stream, key)


def _judge_refused(stream: StreamCard, loaded: StreamLoad | None, key: dg.AssetKey) -> dg.AssetCheckResult:
    expect = stream.expect
    refused = loaded.quarantined if loaded else 0
    read = loaded.rows_read if loaded else 0
    share = refused / read if read else 0.0
    parts = [(part.quarantined, part.rows_read) for part in (loaded.parts or [loaded])] if loaded else []
    # The bounds are each load's own, also where this run did several.
    too_many = expect.max_quarantined is not None and any(count > expect.max_quarantined for count, _ in parts)
    too_large = expect.max_quarantined_rate is not None and any(
        count > expect.max_quarantined_rate * of for count, of in parts
    )
    return dg.AssetCheckResult(
        check_name=REFUSED,
        asset_key=key,
        passed=not (too_many or too_large),
        metadata={"refused": refused, "read": read, "share": round(share, 6)},
        description=f"{refused:,} of {read:,} rows refused" if refused else None,
    )


def _judge_rows(
    cursor: psycopg.Cursor[Any], card: SourceCard, stream: StreamCard, key: dg.AssetKey
) -> dg.AssetCheckResult:
    rows = count_rows(cursor, card.table(stream.name))
    least, most = stream.expect.min_rows, stream.expect.max_rows
    return dg.AssetCheckResult(
        check_name=ROWS,
        asset_key=key,
        passed=(least is None or rows >= least) and (most is None or rows <= most),
        metadata={
            "rows": rows,
            "expected": f"{least if least is not None else 0} to {most if most is not None else '∞'}",
        },
    )


def _judge_nulls(
    cursor: psycopg.Cursor[Any], card: SourceCard, stream: StreamCard, key: dg.AssetKey
) -> dg.AssetCheckResult:
    from psycopg import sql

    table = sql.Identifier("raw", card.table(stream.name))
    cursor.execute(
        "select source_name, column_name from bindery.columns where source = %s and stream = %s",
        (card.source, stream.name),
    )
    columns: dict[str, str] = dict(cursor.fetchall())
    limits = {field: most for field, most in stream.expect.max_null_rate.items() if field in columns}
    shares: dict[str, float] = {}
    if limits:
        counts = sql.SQL(", ").join(sql.SQL("count({})").format(sql.Identifier(columns[field])) for field in limits)
        cursor.execute(sql.SQL("select count(*), {} from {}").format(counts, table))
        total, *present = cursor.fetchone() or (0,)
        shares = {
            field: (total - there) / total if total else 0.0 for field, there in zip(limits, present, strict=True)
        }
    absent = sorted(set(stream.expect.max_null_rate) - set(columns))
    broken = [
        f"{field}: {shares[field]:.1%} NULL, allowed {limits[field]:.1%}"
        for field in limits
        if shares[field] > limits[field]
    ]
    return dg.AssetCheckResult(
        check_name=NULLS,
        asset_key=key,
        passed=not broken and not (absent and columns),
        description="; ".join([*broken, *(f"{field}: no such column" for field in absent)]) or None,
        metadata={f"null_share_{field}": round(share, 6) for field, share in shares.items()},
    )


def _judge_drift(
    cursor: psycopg.Cursor[Any], card: SourceCard, stream: StreamCard, loaded: StreamLoad | None, key: dg.AssetKey
) -> dg.AssetCheckResult:
    new, widened = (loaded.new_columns, loaded.widened) if loaded else ([], {})
    # The first load of a table finds every column new, which is no drift.
    drifted = bool(new or widened) and _loads(cursor, card.source, stream.name) > 1
    told = [f"new column {name}" for name in new] + [f"{name} widened: {how}" for name, how in widened.items()]
    return dg.AssetCheckResult(
        check_name=DRIFT,
        asset_key=key,
        passed=not drifted,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(told) if drifted else None,
        metadata={"new_columns": len(new), "widened_columns": len(widened)},
    )


def _judge_freshness(
    cursor: psycopg.Cursor[Any], card: SourceCard, stream: StreamCard, key: dg.AssetKey
) -> dg.AssetCheckResult:
    from dagster_project.components.schedule import interval_seconds

    cursor.execute(
        "select extract(epoch from now() - max(sealed_at))::float8 from bindery.batches "
        "where source = %s and stream = %s and status = 'sealed'",
        (card.source, stream.name),
    )
    row = cursor.fetchone()
    age = row[0] if row else None
    interval = interval_seconds(card)
    passed = age is not None and (interval is None or age <= 2 * interval)
    return dg.AssetCheckResult(
        check_name=FRESH,
        asset_key=key,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if passed else "no complete fetch yet" if age is None else f"{rate(age, 3600):,.1f} hours old",
        metadata={"age_seconds": round(age, 1) if age is not None else -1.0, "interval_seconds": interval or -1.0},
    )


def _loads(cursor: psycopg.Cursor[Any], source: str, stream: str) -> int:
    cursor.execute(
        "select count(*) from bindery.load_streams join bindery.loads l using (load_id) "
        "where load_streams.source = %s and stream = %s and l.status = 'committed'",
        (source, stream),
    )
    return int((cursor.fetchone() or (0,))[0])


def count_rows(cursor: psycopg.Cursor[Any], table: str) -> int:
    """Count the rows of a raw table, 0 where it doesn't exist yet."""
    from psycopg import sql

    cursor.execute("select to_regclass(%s) is not null", (f'raw."{table}"',))
    if not (cursor.fetchone() or (False,))[0]:
        return 0
    cursor.execute(sql.SQL("select count(*) from {}").format(sql.Identifier("raw", table)))
    return int((cursor.fetchone() or (0,))[0])


def unfinished_streams(cursor: psycopg.Cursor[Any], source: str, streams: list[str]) -> dict[str, str]:
    """Give the streams whose newest batch is open because its fetch failed, with the reason."""
    cursor.execute(
        "select stream, error from bindery.batches "
        "where source = %s and stream = any(%s) and status = 'open' and error is not null",
        (source, streams),
    )
    return dict(cursor.fetchall())
