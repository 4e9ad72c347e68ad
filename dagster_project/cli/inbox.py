"""``bindery inbox``: uploads and what became of them, and another try for those that failed."""

from __future__ import annotations

import json
from typing import Any

import click

from dagster_project.cli.inspect import json_option, known, query, show
from dagster_project.ingest.errors import CardError

STATES = ("announced", "landed", "loaded", "failed", "passed", "dead")
_STATE = (
    "case when l.status <> 'landed' then l.status when b.status = 'abandoned' then 'failed' when exists (select from "
    "bindery.load_batches t where t.batch_id = l.batch_id) then 'loaded' else 'landed' end"
)
_UPLOADS = f"""
  select l.landing_id as id, {_STATE} as state, l.source || '.' || l.stream as stream,
         's3://' || (l.meta ->> 'bucket') || '/' || (l.meta ->> 'key') as object, l.size, l.attempt,
         l.observed_at::timestamp(0) as seen, coalesce(l.meta ->> 'error', l.meta ->> 'passed',
           case when b.status = 'sealed' and not exists (select from bindery.load_batches t
             where t.batch_id = l.batch_id) then (select left(x.error, 200) from bindery.loads x
             where x.source = l.source and x.status = 'failed' and x.finished_at > b.sealed_at
             order by x.load_id desc limit 1) end) as why
  from bindery.landed l left join bindery.batches b using (batch_id)
  where l.meta ? 'bucket' and (%(source)s::text is null or l.source = %(source)s)
    and (%(stream)s::text is null or l.stream = %(stream)s)
"""


@click.group()
def inbox() -> None:
    """Look at uploads: what is announced, landed, loaded or failed; try failed ones again.

    An upload is `announced` by a notification or a list, `landed` when its bytes are kept, `loaded` when its rows are
    in the table. `failed` ones couldn't be read; `passed` ones needed nothing (overwritten, or the same bytes as
    before); `dead` are messages that nobody could make anything of. Exit codes: 0 done, 2 no such upload or no queue
    set, 3 the queue or bucket refuses, 5 database failure.
    """


@inbox.command("list")
@click.argument("target", required=False, metavar="[SOURCE[.STREAM]]")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--limit", default=20, show_default=True, help="How many.")
@json_option
def inbox_list(target: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """Show uploads, newest first."""
    source, stream = known(target)
    if state == "dead":
        rows = query(
            "select message_id as message, reason, receives, seen_at::timestamp(0) as seen, left(body, 80) as body "
            "from bindery.inbox_poison order by seen_at desc limit %s",
            (limit,),
        )
        show(rows, as_json, "no message was left unread")
        return
    values: dict[str, Any] = {"source": source, "stream": stream, "state": state, "limit": limit}
    rows = query(
        f"select * from ({_UPLOADS}) u where %(state)s::text is null or state = %(state)s order by id desc "
        "limit %(limit)s",
        values,
    )
    show(rows, as_json, "no uploads" + (f" in state {state}" if state else ""))


@inbox.command("show")
@click.argument("upload", type=int, metavar="ID")
@json_option
def inbox_show(upload: int, as_json: bool) -> None:
    """Show all that is known of one upload: where its bytes are, which loads took it, what was refused of it."""
    rows = query(f"select * from ({_UPLOADS}) u where id = %(id)s", {"source": None, "stream": None, "id": upload})
    if not rows:
        raise CardError(f"no upload {upload}: `bindery inbox list` shows those there are")
    found = rows[0]
    more = query(
        """
        select l.uri, l.sha256, l.fingerprint, l.batch_id as batch, l.meta,
               (select array_agg(t.load_id order by t.load_id) from bindery.load_batches t
                where t.batch_id = l.batch_id) as loads,
               (select count(*) from raw._quarantine q where q.landing_id = l.landing_id
                and q.resolved_by is null) as quarantined
        from bindery.landed l where l.landing_id = %s
        """,
        (upload,),
    )[0]
    facts = {**found, **{name: value for name, value in more.items() if name != "meta"}, **more["meta"]}
    if as_json:
        click.echo(json.dumps(facts, default=str, ensure_ascii=False))
        return
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:12} {value}")


@inbox.command("retry")
@click.argument("uploads", type=int, nargs=-1, metavar="[ID]...")
@click.option("--failed", "source", metavar="SOURCE", help="Every upload of a source that failed or isn't loaded.")
@json_option
def inbox_retry(uploads: tuple[int, ...], source: str | None, as_json: bool) -> None:
    """Give uploads another attempt: failed ones are announced again, landed ones loaded by the next run.

    The sensor asks for the run; without one, `bindery run SOURCE` does the work. What is loaded is loaded again with
    `bindery replay`.
    """
    if not uploads and source is None:
        raise CardError("which? Name uploads by their number, or --failed SOURCE")
    if source is not None:
        known(source)
    rows = query(
        f"""
        with chosen as (
          select l.landing_id, {_STATE} as state from bindery.landed l left join bindery.batches b using (batch_id)
          where l.meta ? 'bucket' and (l.landing_id = any(%(ids)s) or l.source = %(source)s)
        ), again as (
          update bindery.landed l set attempt = l.attempt + 1, observed_at = clock_timestamp(),
                 status = case c.state when 'failed' then 'announced' else l.status end,
                 batch_id = case c.state when 'failed' then null else l.batch_id end,
                 meta = l.meta - '{{error,gone}}'::text[]
          from chosen c where c.landing_id = l.landing_id and c.state in ('failed', 'landed', 'announced')
          returning l.landing_id, c.state, l.attempt
        )
        select c.landing_id as id, c.state as was, a.attempt from chosen c left join again a using (landing_id)
        order by 1
        """,
        {"ids": list(uploads), "source": source},
        write=True,
    )
    if missing := sorted(set(uploads) - {row["id"] for row in rows}):
        raise CardError(f"no upload {', '.join(map(str, missing))}: `bindery inbox list` shows those there are")
    done = [row for row in rows if row["attempt"] is not None]
    show(done, as_json, "nothing to try again")
    for row in rows if not as_json else []:
        if row["attempt"] is None and row["id"] in uploads:
            click.echo(f"{row['id']} is {row['was']}: load it again with `bindery replay`", err=True)


@inbox.command("redrive")
@json_option
def inbox_redrive(as_json: bool) -> None:
    """Put the dead letters back into the queue, after whatever made them dead was put right."""
    from dagster_project.ingest.inbox.queue import dead_letters, redrive
    from dagster_project.settings import get_settings

    url = get_settings().uploads_queue_url
    if url is None:
        raise CardError("there is no queue: set BINDERY_UPLOADS_QUEUE_URL")
    dead = dead_letters(url)
    if dead is None:
        raise CardError(f"{url} has no queue of dead letters (no RedrivePolicy)")
    moved = redrive(dead, url)
    if moved:
        query("delete from bindery.inbox_poison", write=True)
    if as_json:
        click.echo(json.dumps({"moved": moved}))
    else:
        click.echo(f"{moved} messages are back in the queue")
