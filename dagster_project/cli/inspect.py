"""``bindery quarantine``, ``state`` and ``loads``: what the platform remembers of its loads."""

from __future__ import annotations

import json
from typing import Any

import click


def query(sql: str, parameters: tuple[Any, ...] | dict[str, Any] = (), *, write: bool = False) -> list[dict[str, Any]]:
    """Run one statement as the loader and give its rows."""
    from psycopg.rows import dict_row

    from dagster_project import warehouse
    from dagster_project.settings import get_settings

    settings = get_settings()
    warehouse.ensure_ready(settings)
    with warehouse.connect(settings, "loader") as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(sql, parameters)
        rows = cursor.fetchall() if cursor.description else []
        if write:
            connection.commit()
        return rows


def show(rows: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    """Print rows as a table, or as one JSON object a line."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=str, ensure_ascii=False))
        return
    if not rows:
        click.echo(nothing)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=160 if not Console().is_terminal else None).print(table)


def split(target: str | None) -> tuple[str | None, str | None]:
    """Split ``source.stream``; either may be missing."""
    if not target:
        return None, None
    source, _, stream = target.partition(".")
    return source, stream or None


def known(target: str | None) -> tuple[str | None, str | None]:
    """Split ``source.stream``, and refuse what neither a card nor the logs know.

    Raises:
        CardError: No such source or stream; the message lists those there are.
    """
    from dagster_project.cli.context import no_source, shelf
    from dagster_project.ingest.errors import CardError

    source, stream = split(target)
    if source is None:
        return None, None
    found = shelf()
    logged: dict[str, set[str]] = {}
    # A source whose card is gone has its history still.
    for row in query("select distinct source, stream from bindery.batches order by 1, 2"):
        logged.setdefault(row["source"], set()).add(row["stream"])
    if source not in found.cards and source not in logged:
        raise no_source(source, found, logged)
    streams = logged.get(source, set())
    if source in found.cards:
        streams = streams | {each.name for each in found.cards[source][1].all_streams}
    if stream is not None and stream not in streams:
        raise CardError(f"no stream {target!r}; there are: {', '.join(f'{source}.{name}' for name in sorted(streams))}")
    return source, stream


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.command()
@click.argument("target", required=False, metavar="[SOURCE[.STREAM]]")
@click.option("--limit", default=20, show_default=True, help="How many rows.")
@click.option("--all", "resolved", is_flag=True, help="Also rows that a replay has taken since.")
@json_option
def quarantine(target: str | None, limit: int, resolved: bool, as_json: bool) -> None:
    """Show refused rows with the reason. After a fix of the card, `bindery replay SOURCE` loads them."""
    source, stream = known(target)
    rows = query(
        """
        select quarantine_id as id, q.source || '.' || q.stream as stream, load_id as load, code,
               coalesce(column_name, '') as column, message, l.origin as object, q.ordinal as number,
               left(coalesce(record::text, line), 80) as row
        from raw._quarantine q left join bindery.landed l using (landing_id)
        where (%s::text is null or q.source = %s) and (%s::text is null or q.stream = %s)
          and (%s or resolved_by is null)
        order by quarantine_id desc limit %s
        """,
        (source, source, stream, stream, resolved, limit),
    )
    show(rows, as_json, "nothing in quarantine")


@click.group()
def state() -> None:
    """Show or reset where incremental streams go on."""


@state.command("show")
@click.argument("target", required=False, metavar="[SOURCE[.STREAM]]")
@json_option
def state_show(target: str | None, as_json: bool) -> None:
    """Show cursors, and batches that wait to be loaded or resumed."""
    source, stream = known(target)
    rows = query(
        """
        select b.source || '.' || b.stream as stream, b.partition, s.cursor::text as loaded_cursor,
               max(b.cursor_proposed::text) filter (where b.status = 'sealed' and not exists (
                 select from bindery.load_batches l where l.batch_id = b.batch_id)) as waiting_cursor,
               count(*) filter (where b.status = 'open') as open_batches,
               count(*) filter (where b.status = 'sealed' and not exists (
                 select from bindery.load_batches l where l.batch_id = b.batch_id)) as waiting_batches,
               max(b.error) filter (where b.status = 'open') as error
        from bindery.batches b
        left join bindery.state s on (s.source, s.stream, s.partition, s.parent) = (b.source, b.stream, b.partition, '')
        where (%s::text is null or b.source = %s) and (%s::text is null or b.stream = %s)
        group by b.source, b.stream, b.partition, s.cursor
        order by 1, 2
        """,
        (source, source, stream, stream),
    )
    show(rows, as_json, "no state yet: nothing has been fetched")


@state.command("reset")
@click.argument("target", metavar="SOURCE[.STREAM]")
@click.option("--yes", is_flag=True, help="Don't ask.")
def state_reset(target: str, yes: bool) -> None:
    """Forget the cursor, so that the next fetch reads everything. Tables keep their rows."""
    source, stream = known(target)
    if not yes and not click.confirm(f"Forget where {target} goes on? The next fetch reads everything"):
        click.echo("nothing was forgotten")
        return
    rows = query(
        """
        with forgotten as (
          delete from bindery.state where source = %s and (%s::text is null or stream = %s) returning 1
        ), batches as (
          update bindery.batches set cursor_proposed = null
          where source = %s and (%s::text is null or stream = %s) and cursor_proposed is not null returning 1
        )
        select (select count(*) from forgotten) as cursors, (select count(*) from batches) as batches
        """,
        (source, stream, stream, source, stream, stream),
        write=True,
    )
    click.echo(f"{rows[0]['cursors']} cursors forgotten, {rows[0]['batches']} batches no longer say where to go on")


@state.command("skip")
@click.argument("target", metavar="SOURCE[.STREAM]")
@click.option("--yes", is_flag=True, help="Don't ask.")
def state_skip(target: str, yes: bool) -> None:
    """Count what is landed and waits as loaded, without loading it; a replay still can. For what a load refuses."""
    from dagster_project.ingest.load.batches import SKIP

    source, stream = split(target)
    if not yes:
        click.confirm(f"Go on without what waits of {target}? Its rows don't get into the table", abort=True)
    rows = query(SKIP, (source, source, stream, stream, source, f"skipped: bindery state skip {target}"), write=True)
    click.echo(f"{rows[0]['batches']} batches skipped; `bindery replay {source}` loads them after all")


@click.command()
@click.argument("target", required=False, metavar="[SOURCE[.STREAM]]")
@click.option("--limit", default=20, show_default=True, help="How many.")
@json_option
def loads(target: str | None, limit: int, as_json: bool) -> None:
    """Show the load log, newest first."""
    source, stream = known(target)
    rows = query(
        """
        select l.load_id as load, l.source, s.stream, l.kind, l.status, l.finished_at::timestamp(0) as finished,
               s.rows_read as read, s.inserted, s.updated, s.unchanged, s.deleted, s.quarantined,
               round(s.seconds::numeric, 2) as seconds, l.error
        from bindery.loads l left join bindery.load_streams s using (load_id)
        where (%s::text is null or l.source = %s) and (%s::text is null or s.stream = %s)
        order by l.load_id desc, s.stream limit %s
        """,
        (source, source, stream, stream, limit),
    )
    show(rows, as_json, "no loads yet")
