"""What a replay does to the quarantine: rows that fit now leave it, rows that still don't are there once.

Collecting and writing refused rows is ``quarantine``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.ingest.load.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dagster_project.ingest.landing.model import Batch

_AGAIN = (
    "create temp table bindery_again on commit drop as select unnest(%s::bigint[]) as landing_id, "
    "unnest(%s::bigint[]) as ordinal"
)
_OLD = (
    "q.resolved_by is null and q.load_id <> %(load)s and q.landing_id in "
    "(select landing_id from bindery.landed where batch_id = any(%(batches)s))"
)


_BETTER = (
    "update raw._quarantine q set resolved_by = %(load)s from bindery.landed old, bindery.landed new "
    "where (q.source, q.stream, q.code) = (%(source)s, %(stream)s, 'unreadable_object') and q.resolved_by is null "
    "and old.landing_id = q.landing_id and (new.source, new.stream, new.origin) = (old.source, old.stream, old.origin) "
    "and new.landing_id > old.landing_id and new.batch_id = any(%(batches)s) and new.landing_id <> all(%(bad)s) "
    "returning q.landing_id"
)


def resolve(session: Session, load_id: int, read: list[Batch], refused: list[tuple[int | None, int | None]]) -> int:
    """Settle the older entries of the batches that were read again.

    Args:
        session: In the replay's transaction.
        load_id: The replay.
        read: The batches that it read.
        refused: Landing id and ordinal of the rows that it refused.

    Returns:
        Rows that left the quarantine.
    """
    values = {"load": load_id, "batches": [batch.batch_id for batch in read]}
    session.run("drop table if exists pg_temp.bindery_again")
    session.run(_AGAIN, [[row[0] for row in refused], [row[1] for row in refused]])
    # Refused again: the new entry has today's reason, the old one goes.
    session.run(
        f"delete from raw._quarantine q where {_OLD} and exists (select from pg_temp.bindery_again a "
        "where a.landing_id = q.landing_id and a.ordinal is not distinct from q.ordinal)",
        values,
    )
    return session.run(f"update raw._quarantine q set resolved_by = %(load)s where {_OLD}", values).rowcount


def resolve_objects(
    session: Session, load_id: int, source: str, stream: str, read: list[Batch], set_aside: Iterable[int | None]
) -> set[int]:
    """Settle objects that couldn't be read, where a newer observation of the same one was read by now.

    Args:
        session: In the load's transaction.
        load_id: The load.
        source: The source's name.
        stream: The stream's name.
        read: The batches that it read.
        set_aside: Landing ids of objects in them that couldn't be read.

    Returns:
        Landing ids of those that are settled.
    """
    values = {
        "load": load_id,
        "source": source,
        "stream": stream,
        "batches": [batch.batch_id for batch in read],
        "bad": list(set_aside),
    }
    return {row[0] for row in session.all(_BETTER, values)}
