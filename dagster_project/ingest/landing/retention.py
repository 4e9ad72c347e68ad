"""Retention: archived bytes that are older than a card's ``archive.keep`` are removed; the landing log keeps its rows.

Bytes go in two steps. First the batches are marked and their objects queued, in one commit; from then on nothing is
read of those batches. Then objects that no other batch needs are removed and leave the queue. Killed in between, the
next purge finds the queue. Never is an object removed that a batch without a mark refers to: one that is being landed
again is young (``Archive.touch``, ``Archive.put``), and young objects stay in the queue.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_project.ingest.landing.log import LOAD_LOCK

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.cards.base import SourceCard
    from dagster_project.ingest.landing.store import AnyArchive

_PURGE_LOCK = "hashtextextended('bindery:purge', 0)"
_CHUNK = 500
_LIVE = "exists (select from bindery.landed l join bindery.batches b using (batch_id) where l.uri = {uri} and {which})"
_DUE = (
    "select b.batch_id, b.stream, b.partition from bindery.batches b where b.source = %(source)s "
    "and b.purged_at is null and b.status in ('sealed', 'abandoned') and b.position > 0 "
    "and coalesce(b.sealed_at, b.opened_at) < now() - make_interval(secs => %(keep)s) "
    # Streams whose names begin with _ are pages that no stream reads: nothing ever loads them.
    "and (b.status = 'abandoned' or starts_with(b.stream, '_') "
    "or exists (select from bindery.load_batches t where t.batch_id = b.batch_id)) order by b.batch_id"
)
_COVERED = (
    "select b.partition, min(case when b.status = 'open' then (b.resume #>> '{batches,0}')::bigint - 1 "
    "else (b.cursor_proposed ->> 'parent_batch')::bigint end) from bindery.batches b "
    "where (b.source, b.stream) = (%s, %s) and (b.status = 'open' and b.resume ? 'batches' or b.batch_id = "
    "(select max(n.batch_id) from bindery.batches n where (n.source, n.stream, n.partition) = "
    "(b.source, b.stream, b.partition) and n.status = 'sealed')) group by b.partition"
)


@dataclass(slots=True)
class Purge:
    """What a purge did, or would do."""

    batches: list[int] = field(default_factory=list)
    """Whose bytes aren't kept any more."""
    objects: int = 0
    """Removed from the archive."""
    bytes: int = 0
    """That they took on the disk; as received, where nothing was removed yet."""
    waiting: int = 0
    """Objects that stay in the queue: landed again too lately to be sure who needs them."""
    busy: bool = False
    """Whether a load of the source, or another purge, was under way: then nothing was marked, or removed."""


def is_due(connection: psycopg.Connection[Any], card: SourceCard) -> bool:
    """Tell whether a purge would find something to do, cheaply."""
    if card.archive.keep is None:
        return False
    queued = connection.execute("select exists (select from bindery.purge_queue)").fetchone()
    return bool(queued and queued[0]) or bool(due_batches(connection, card))


def due_batches(connection: psycopg.Connection[Any], card: SourceCard) -> list[int]:
    """Give the batches whose bytes are old enough, and needed neither by a load nor by a child stream's fetch."""
    if card.archive.keep is None:
        return []
    rows = connection.execute(_DUE.encode(), {"source": card.source, "keep": card.archive.keep}).fetchall()
    if not rows:
        return []
    # A child reads its parents from what was landed for them.
    needed: dict[str, list[dict[str, int]]] = {}
    for stream in card.all_streams:
        parent = getattr(stream, "parent", None)
        if parent is not None:
            covered = connection.execute(_COVERED.encode(), [card.source, stream.name]).fetchall()
            needed.setdefault(parent.stream, []).append({partition: last or 0 for partition, last in covered})
    return [
        batch_id
        for batch_id, stream, partition in rows
        if all(batch_id <= covered.get(partition, 0) for covered in needed.get(stream, []))
    ]


def preview_purge(connection: psycopg.Connection[Any], card: SourceCard) -> Purge:
    """Tell what a purge would remove."""
    due = due_batches(connection, card)
    live = _LIVE.format(uri="u.uri", which="b.purged_at is null and b.batch_id <> all(%(due)s)")
    row = connection.execute(
        "select count(*), coalesce(sum(size), 0)::bigint from (select uri, max(size) as size from bindery.landed "
        f"where batch_id = any(%(due)s) and uri is not null group by uri) u where not {live}".encode(),
        {"due": due},
    ).fetchone()
    return Purge(due, row[0] if row else 0, row[1] if row else 0)


def mark(connection: psycopg.Connection[Any], card: SourceCard) -> Purge:
    """Say that the bytes of old batches aren't kept any more, and queue their objects."""
    with connection.transaction():
        # A load, above all a replay, may be reading them.
        row = connection.execute(f"select pg_try_advisory_xact_lock({LOAD_LOCK})".encode(), [card.source]).fetchone()
        if not (row and row[0]):
            return Purge(busy=True)
        connection.execute(f"select pg_advisory_xact_lock({_PURGE_LOCK})".encode())
        due = due_batches(connection, card)
        if due:
            connection.execute("update bindery.batches set purged_at = now() where batch_id = any(%s)", [due])
            connection.execute(
                "insert into bindery.purge_queue (uri) select distinct uri from bindery.landed "
                "where batch_id = any(%s) and uri is not null on conflict do nothing",
                [due],
            )
    return Purge(due)


def sweep(
    connection: psycopg.Connection[Any], archive: AnyArchive, done: Purge, *, seconds: float | None = None
) -> None:
    """Remove queued objects that nothing needs, some hundred at a time; stop after so many seconds."""
    deadline = None if seconds is None else time.monotonic() + seconds
    last = ""
    while deadline is None or time.monotonic() < deadline:
        with connection.transaction():
            row = connection.execute(f"select pg_try_advisory_xact_lock({_PURGE_LOCK})".encode()).fetchone()
            if not (row and row[0]):
                done.busy = True
                return
            live = _LIVE.format(uri="q.uri", which="b.purged_at is null")
            rows = connection.execute(
                f"select q.uri, {live} from bindery.purge_queue q where q.uri > %s order by q.uri limit %s".encode(),
                [last, _CHUNK],
            ).fetchall()
            settled = []
            for uri, needed in rows:
                # One that is needed comes into the queue again when the batch that needs it is marked.
                size = 0 if needed else archive.remove(uri)
                if size is None:
                    done.waiting += 1
                    continue
                settled.append(uri)
                done.objects += not needed
                done.bytes += size
            connection.execute("delete from bindery.purge_queue where uri = any(%s)", [settled])
        if len(rows) < _CHUNK:
            return
        last = rows[-1][0]


def purge(
    connection: psycopg.Connection[Any], card: SourceCard, archive: AnyArchive, *, seconds: float | None = None
) -> Purge:
    """Stop keeping a source's old bytes, and remove what nothing needs.

    Args:
        connection: As the loader, between two transactions.
        card: Says how long bytes are kept; without ``archive.keep`` only what is queued is removed.
        archive: Where the bytes are.
        seconds: Stop removing after so many; the next purge goes on.
    """
    done = mark(connection, card) if card.archive.keep is not None else Purge()
    sweep(connection, archive, done, seconds=seconds)
    return done
