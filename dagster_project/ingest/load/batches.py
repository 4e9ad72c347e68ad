"""Which batches a load takes, what is in them, and the marks that they were taken.

The landing log proper is fetching's (``landing.log``); here is the side of it that loads and replays need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from dagster_project.ingest.durations import spell_duration
from dagster_project.ingest.errors import CardError, LandingError
from dagster_project.ingest.landing.log import LOAD_LOCK, LandingLog
from dagster_project.ingest.load.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster_project.ingest.cards.base import StreamCard
    from dagster_project.ingest.landing.model import Batch, LandedObject

PAGE = 500
"""Landed objects read at a time."""
SKIP = f"""
with turn as materialized (select pg_advisory_xact_lock({LOAD_LOCK})), waiting as materialized (
  select b.batch_id from turn, bindery.batches b where b.source = %s and (%s::text is null or b.stream = %s)
    and b.status = 'sealed' and not exists (select from bindery.load_batches l where l.batch_id = b.batch_id)
), skipped as (
  insert into bindery.loads (source, kind, status, started_at, error)
  select %s, 'load', 'committed', now(), %s where exists (select from waiting) returning load_id
), taken as (
  insert into bindery.load_batches (load_id, batch_id) select load_id, batch_id from skipped, waiting returning 1
)
select count(*) as batches from taken
"""
"""Marks what waits as taken by a load that loads nothing; a load of the source is waited for."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Which landed batches to load again; all of them where nothing is said."""

    load_id: int | None = None
    """Those that this load took."""
    since: datetime | None = None
    """Those sealed at this moment or later."""
    batches: tuple[int, ...] = ()
    """These."""

    @property
    def everything(self) -> bool:
        """Whether all batches are meant."""
        return self.load_id is None and self.since is None and not self.batches


@dataclass(slots=True)
class Work:
    """What a load does with one stream."""

    batches: list[Batch]
    """Taken marks are set for all of these."""
    read: list[Batch]
    """These are read, in order."""
    replace: bool = False
    """Empty the table first."""
    delete_loads: list[int] = field(default_factory=list)
    """Delete the rows of these loads first."""
    complete: bool = False
    """Whether what is read lists everything that the source has."""
    again: bool = False
    """Whether this is a replay: the cursor stays."""
    note: str | None = None
    """What the report should warn of."""
    more: bool = False
    """Whether further batches of the stream wait for the load after this one."""


def work_of_load(session: Session, source: str, stream: StreamCard, partition: str) -> Work:
    """Decide what a load does: the sealed batches that no load has taken."""
    log = LandingLog(session.connection)
    work = _narrowed(stream, partition, log.sealed_untaken(source, stream.name, partition))
    if work.replace and partition:
        # The other partitions' rows stay.
        work.replace = False
        work.delete_loads = _loads_of_partition(session, source, stream.name, partition)
    return work


def work_of_replay(
    session: Session, source: str, stream: StreamCard, partition: str, replay: Replay, keep: float | None = None
) -> Work:
    """Decide what a replay does.

    Batches whose bytes retention has removed can't be read again: a replay of everything leaves them out, where the
    others can be loaded without them.

    Args:
        session: In the replay's transaction.
        source: The source's name.
        stream: The stream's card.
        partition: Which partition's batches.
        replay: What was asked for.
        keep: The card's ``archive.keep``, for words.

    Raises:
        CardError: A part of a stream was asked for that can't be loaded by itself.
        LandingError: Bytes that are needed were removed.
    """
    every = _sealed(session, source, stream.name, partition)
    purged = [batch for batch in every if batch.purged_at is not None]
    work = _replayed(session, source, stream, partition, replay, every, purged)
    if gone := [batch for batch in work.read if batch.purged_at is not None]:
        raise LandingError(
            f"{_removed(gone, keep)}: rows of {source}.{stream.name} that came with them can't be loaded again. "
            "Replay a later load (--load), or fetch the source again with --full-refresh"
        )
    left = {batch.batch_id for batch in work.batches}
    if out := [batch for batch in purged if batch.batch_id not in left]:
        if replay.everything and not work.read:
            raise LandingError(
                f"{_removed(out, keep)}, and nothing else of {source}.{stream.name} can be replayed without them. "
                "Fetch the source again with --full-refresh"
            )
        if replay.everything:
            work.note = f"{_removed(out, keep)}: rows that came with them stay as they are"
    return work


def _removed(batches: list[Batch], keep: float | None) -> str:
    """Say whose bytes are gone, since when and why."""
    numbers = [str(batch.batch_id) for batch in batches]
    which = f"batch {numbers[0]}" if len(numbers) == 1 else f"batches {numbers[0]} to {numbers[-1]}"
    day = max(batch.purged_at for batch in batches if batch.purged_at is not None)
    why = "archive.keep" if keep is None else f"archive.keep: {spell_duration(keep)}"
    return f"bytes of {which} were removed on {day:%Y-%m-%d} by `{why}`"


def _replayed(
    session: Session,
    source: str,
    stream: StreamCard,
    partition: str,
    replay: Replay,
    every: list[Batch],
    purged: list[Batch],
) -> Work:
    if purged and replay.everything and stream.write == "append":
        # Rows go by load: those of loads that brought removed bytes stay, with whatever else came with them.
        stay, _ = _closed(session, stream.name, every, purged)
        apart = [batch for batch in every if batch not in stay]
        chosen, loads = _closed(session, stream.name, every, apart)
        return Work(chosen, chosen, delete_loads=loads, again=True)
    if purged and replay.everything and stream.write == "merge":
        # Only what came after them has the last word.
        every = every[every.index(purged[-1]) + 1 :]
    chosen = every if replay.everything else _chosen(session, stream, every, replay)
    if stream.write == "append" and not replay.everything:
        # Rows of other batches that the same loads brought would go with them: they are loaded again too.
        chosen, loads = _closed(session, stream.name, every, chosen)
        return Work(chosen, chosen, delete_loads=loads, again=True)
    work = _narrowed(stream, partition, chosen)
    work.again = True
    if stream.write == "append":
        work.replace = not partition
    if partition and stream.write != "merge":
        work.replace = False
        work.delete_loads = _loads_of_partition(session, source, stream.name, partition)
    if stream.write == "replace" and chosen and not replay.everything and chosen[-1].batch_id != every[-1].batch_id:
        raise CardError(
            f"stream {stream.name!r} is replaced by each load: replaying an older part would put the past into the "
            "table. Replay without --load or --since"
        )
    return work


def _narrowed(stream: StreamCard, partition: str, batches: list[Batch]) -> Work:
    """Leave out batches that a newer one makes superfluous."""
    filled = [batch for batch in batches if batch.position > 0]
    if stream.write == "replace":
        return Work(batches, filled[-1:], replace=bool(filled), complete=bool(filled))
    if stream.write == "merge" and stream.missing == "delete" and not partition:
        whole = [at for at, batch in enumerate(filled) if batch.stats.get("complete") is True]
        if whole:
            return Work(batches, filled[whole[-1] :], complete=True)
    return Work(batches, filled)


def _sealed(session: Session, source: str, stream: str, partition: str) -> list[Batch]:
    return LandingLog(session.connection).sealed_since(source, stream, partition, 0)


def _chosen(session: Session, stream: StreamCard, every: list[Batch], replay: Replay) -> list[Batch]:
    wanted = set(replay.batches)
    if replay.load_id is not None:
        rows = session.all("select batch_id from bindery.load_batches where load_id = %s", [replay.load_id])
        wanted |= {row[0] for row in rows}
    if replay.since is not None:
        rows = session.all(
            "select batch_id from bindery.batches where batch_id = any(%s) and sealed_at >= %s",
            [[batch.batch_id for batch in every], replay.since],
        )
        wanted |= {row[0] for row in rows}
    chosen = [batch for batch in every if batch.batch_id in wanted]
    if stream.write == "merge" and chosen and not stream.newest_by and chosen[-1] is not every[-1]:
        # Later batches have the last word, so they are read again after the chosen ones.
        first = every.index(chosen[0])
        return every[first:]
    return chosen


def _closed(session: Session, stream: str, every: list[Batch], chosen: list[Batch]) -> tuple[list[Batch], list[int]]:
    """Widen a choice of batches until it is all that some loads brought, and give those loads."""
    own = {batch.batch_id for batch in every}
    batches = {batch.batch_id for batch in chosen}
    loads: set[int] = set()
    while True:
        rows = session.all("select load_id from bindery.load_batches where batch_id = any(%s)", [list(batches)])
        loads |= {row[0] for row in rows}
        rows = session.all("select batch_id from bindery.load_batches where load_id = any(%s)", [list(loads)])
        wider = batches | ({row[0] for row in rows} & own)
        if wider == batches:
            return [batch for batch in every if batch.batch_id in batches], sorted(loads)
        batches = wider


def _loads_of_partition(session: Session, source: str, stream: str, partition: str) -> list[int]:
    rows = session.all(
        "select load_id from bindery.load_streams where (source, stream, partition) = (%s, %s, %s)",
        [source, stream, partition],
    )
    return [row[0] for row in rows]


def objects(session: Session, batch: Batch) -> Iterator[list[LandedObject]]:
    """Give the landed objects of a batch in order, a page at a time.

    The connection is free between pages: it is asked again only when the next page is wanted.
    """
    page: list[LandedObject] = []
    for landed in LandingLog(session.connection).objects(batch.batch_id):
        page.append(landed)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def sizes_of(session: Session, batch_ids: list[int]) -> dict[int, int]:
    """Give the landed bytes of batches."""
    rows = session.all(
        "select batch_id, coalesce(sum(size), 0)::bigint from bindery.landed where batch_id = any(%s) "
        "and status = 'landed' group by batch_id",
        [batch_ids],
    )
    return dict(rows)


def mark_taken(session: Session, load_id: int, works: list[Work]) -> None:
    """Link the load to its batches."""
    ids = sorted({batch.batch_id for work in works for batch in work.batches})
    if ids:
        session.run(
            "insert into bindery.load_batches (load_id, batch_id) select %s, unnest(%s::bigint[])", [load_id, ids]
        )


def write_state(session: Session, load_id: int, source: str, stream: str, partition: str, work: Work) -> None:
    """Write the cursor that the newest batch proposed."""
    if work.again or not work.batches:
        return
    cursor: Any = work.batches[-1].cursor_proposed
    session.run(
        "insert into bindery.state (source, stream, partition, cursor, load_id) values (%s, %s, %s, %s, %s) "
        "on conflict (source, stream, partition, parent) do update set cursor = excluded.cursor, "
        "load_id = excluded.load_id, "
        "updated_at = now()",
        [source, stream, partition, None if cursor is None else Jsonb(cursor), load_id],
    )
