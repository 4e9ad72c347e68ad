"""The landing log: what was landed, in which batch, and where the next fetch starts.

Fetching writes it, loading reads it. Everything that writes commits by itself in one short transaction; everything that
reads leaves the transaction to the caller. Where bytes are kept is the archive's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from dagster_project.ingest.errors import LandingError
from dagster_project.ingest.landing.model import LANE, Batch, LandedObject

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.fetch.uploads import Upload

LOAD_LOCK = "hashtextextended('bindery:load:' || %s, 0)"
"""Key of the advisory lock that a load of a source holds until its transaction ends; the parameter is the source."""
_PAGE = 1000
_BATCH = (
    "batch_id, source, stream, partition, status, fingerprint, cursor_start, cursor_proposed, position, resume, "
    "full_refresh, stats, error, purged_at"
)
_OBJECT = (
    "source, stream, fingerprint, origin, uri, sha256, size, media_type, meta, position, batch_id, landing_id, status, "
    "attempt, observed_at"
)
_VALUES = (
    "%(batch_id)s::bigint, %(source)s::text, %(stream)s::text, 'landed', %(position)s::int, %(fingerprint)s::text, "
    "%(origin)s::text, %(uri)s::text, %(sha256)s::text, %(size)s::bigint, %(media_type)s::text, %(meta)s::jsonb"
)
_OPEN = "from bindery.batches where batch_id = %(batch_id)s and status = 'open'"
_SET = (
    "status = 'landed', uri = excluded.uri, sha256 = excluded.sha256, size = excluded.size, "
    "media_type = excluded.media_type, meta = excluded.meta, observed_at = clock_timestamp()"
)
# Losing the newest rows in a crash of the server means asking for those pages again, nothing else; sealing waits for
# the disk, and with it everything before. Saves one flush of the log per page.
_LAZY = "set_config('synchronous_commit', 'off', true)"
_STEP = (
    "update bindery.batches set position = greatest(position, %(position)s + 1), resume = %(resume)s, "
    "cursor_proposed = %(cursor)s, error = null from landed where batches.batch_id = %(batch_id)s "
    f"and batches.status = 'open' returning landed.landing_id, {_LAZY}"
)
ADD = (
    "with landed as (insert into bindery.landed (batch_id, source, stream, status, position, fingerprint, origin, "
    f"uri, sha256, size, media_type, meta) select {_VALUES} {_OPEN} "
    f"on conflict (batch_id, fingerprint) do update set {_SET} returning landing_id) {_STEP}"
)
ADOPT = (
    "with landed as (update bindery.landed set batch_id = %(batch_id)s, status = 'landed', position = %(position)s, "
    "origin = %(origin)s, fingerprint = %(fingerprint)s, uri = %(uri)s, sha256 = %(sha256)s, size = %(size)s, "
    "media_type = %(media_type)s, meta = %(meta)s where landing_id = %(landing_id)s "
    f"and exists (select {_OPEN}) returning landing_id) {_STEP}"
)


class Log(Protocol):
    """What fetching needs of a landing log: this one in Postgres, or one in memory for previews."""

    def open_batch(self, source: str, stream: str, partition: str, fingerprint: str, full_refresh: bool) -> Batch:
        """Resume the open batch of this fingerprint, or open a new one."""
        ...

    def open_one(self, source: str, stream: str, partition: str) -> Batch | None:
        """Give the open batch, without opening one."""
        ...

    def newest_sealed(self, source: str, stream: str, partition: str) -> Batch | None:
        """Give the batch that was sealed last."""
        ...

    def sealed_since(self, source: str, stream: str, partition: str, batch_id: int) -> list[Batch]:
        """Give the batches sealed after this one, in order."""
        ...

    def sealed_untaken(self, source: str, stream: str, partition: str) -> list[Batch]:
        """Give the sealed batches that no load has taken, in order."""
        ...

    def give_up(self, source: str, batches: list[Batch], why: str) -> set[int]:
        """Give up sealed batches that no load has taken nor is taking; tell which."""
        ...

    def add(self, batch: Batch, landed: LandedObject, resume: dict[str, Any] | None, cursor: Any) -> int:
        """Write one landed object and how to go on after it."""
        ...

    def advance(self, batch: Batch, resume: dict[str, Any] | None, cursor: Any) -> None:
        """Write how to go on, where a request gave nothing to land."""
        ...

    def seal(self, batch: Batch, cursor: Any, stats: dict[str, Any]) -> None:
        """Declare the batch whole."""
        ...

    def fail(self, batch: Batch, error: str, stats: dict[str, Any] | None = None) -> None:
        """Write why the batch stopped; it stays open."""
        ...

    def abandon(self, batch: Batch, why: str) -> None:
        """Give a batch up; the next one starts where it started."""
        ...

    def seal_shares(self, source: str, stream: str) -> None:
        """Seal what fetches of shares left open when they were killed; none may be under way."""
        ...

    def objects(self, batch_id: int) -> Iterator[LandedObject]:
        """Give the objects of a batch in order."""
        ...

    def last_seen(self, source: str, stream: str, origins: list[str] | None = None) -> dict[str, LandedObject]:
        """Give the newest landed object of each origin, or of some."""
        ...

    def announced(self, source: str, stream: str | None = None) -> list[LandedObject]:
        """Give the objects that were announced and not landed yet."""
        ...

    def announce_listed(self, source: str, stream: str, uploads: list[Upload], *, again: bool) -> None:
        """Announce of what is in a bucket now what isn't known yet."""
        ...

    def mark_failed(self, landing_id: int, error: str, *, gone: bool = False) -> None:
        """Say that an announced object can't be landed."""
        ...

    def mark_passed(self, landing_id: int, why: str) -> None:
        """Say that nothing of an announced object needs to be landed."""
        ...


class LandingLog:
    """The landing log in Postgres, over one connection."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def open_batch(self, source: str, stream: str, partition: str, fingerprint: str, full_refresh: bool) -> Batch:
        """Resume the open batch where its fingerprint is the same, else abandon it and open a new one.

        A new batch starts at the cursor that the newest sealed one proposed, or at the state that the loads left where
        no batch is kept; a full refresh starts at nothing. An interrupted full refresh is resumed by any fetch.
        """
        with self.connection.transaction():
            batch = self.open_one(source, stream, partition)
            if batch is not None and batch.fingerprint == fingerprint and (batch.full_refresh or not full_refresh):
                batch.resumed = True
            else:
                if batch is not None:
                    why = "a full refresh began" if batch.fingerprint == fingerprint else "the card changed"
                    self._execute(
                        "update bindery.batches set status = 'abandoned', error = %s where batch_id = %s",
                        [why, batch.batch_id],
                    )
                start = None if full_refresh else self._start(source, stream, partition)
                batch = self._batches(
                    "insert into bindery.batches (source, stream, partition, fingerprint, cursor_start, "
                    f"cursor_proposed, full_refresh) values (%s, %s, %s, %s, %s, %s, %s) returning {_BATCH}",
                    [source, stream, partition, fingerprint, _json(start), _json(start), full_refresh],
                )[0]
        self._commit()
        return batch

    def open_one(self, source: str, stream: str, partition: str) -> Batch | None:
        """Give the open batch, without opening one."""
        found = self._batches(
            f"select {_BATCH} from bindery.batches where (source, stream, partition) = (%s, %s, %s) "
            "and status = 'open'",
            [source, stream, partition],
        )
        return found[0] if found else None

    def newest_sealed(self, source: str, stream: str, partition: str) -> Batch | None:
        """Give the batch that was sealed last."""
        found = self._batches(
            f"select {_BATCH} from bindery.batches where (source, stream, partition) = (%s, %s, %s) "
            "and status = 'sealed' order by batch_id desc limit 1",
            [source, stream, partition],
        )
        return found[0] if found else None

    def sealed_since(self, source: str, stream: str, partition: str, batch_id: int) -> list[Batch]:
        """Give the batches sealed after this one, in order."""
        return self._batches(
            f"select {_BATCH} from bindery.batches where (source, stream, partition) = (%s, %s, %s) "
            "and status = 'sealed' and batch_id > %s order by batch_id",
            [source, stream, partition, batch_id],
        )

    def sealed_untaken(self, source: str, stream: str, partition: str) -> list[Batch]:
        """Give the sealed batches that no load has taken, in order."""
        return self._batches(
            f"select {_BATCH} from bindery.batches b where (source, stream, partition) = (%s, %s, %s) and "
            "status = 'sealed' and not exists (select from bindery.load_batches t where t.batch_id = b.batch_id) "
            "order by batch_id",
            [source, stream, partition],
        )

    def add(self, batch: Batch, landed: LandedObject, resume: dict[str, Any] | None, cursor: Any) -> int:
        """Write one landed object and how to go on after it, in one commit; its bytes are durable by now.

        An object that was announced (it has a ``landing_id``) becomes part of the batch; any other is a new row, or
        the same row again where the request of this fingerprint is already in the batch.

        Raises:
            LandingError: The batch isn't open any more.
        """
        statement = ADD if landed.landing_id is None else ADOPT
        found = self._execute(
            statement,
            {
                "batch_id": batch.batch_id,
                "landing_id": landed.landing_id,
                "source": landed.source,
                "stream": landed.stream,
                "position": batch.position if landed.position is None else landed.position,
                "fingerprint": landed.fingerprint,
                "origin": landed.origin,
                "uri": landed.uri,
                "sha256": landed.sha256,
                "size": landed.size,
                "media_type": landed.media_type,
                "meta": _json(landed.meta),
                "resume": _json(resume),
                "cursor": _json(cursor),
            },
        ).fetchone()
        if found is None:
            raise _closed(batch)
        self._commit()
        landed.landing_id, landed.batch_id, landed.status = found[0], batch.batch_id, "landed"
        if landed.position is None:
            landed.position = batch.position
        batch.position = max(batch.position, landed.position + 1)
        batch.resume, batch.cursor_proposed = resume, cursor
        return landed.landing_id

    def advance(self, batch: Batch, resume: dict[str, Any] | None, cursor: Any) -> None:
        """Write how to go on, where a request gave nothing to land.

        Raises:
            LandingError: The batch isn't open any more.
        """
        self._change_open(batch, "resume = %s, cursor_proposed = %s, error = null", [_json(resume), _json(cursor)])
        batch.resume, batch.cursor_proposed = resume, cursor

    def seal(self, batch: Batch, cursor: Any, stats: dict[str, Any]) -> None:
        """Declare the batch whole, so that it can be loaded.

        Raises:
            LandingError: The batch isn't open any more.
        """
        self._change_open(
            batch,
            "status = 'sealed', sealed_at = clock_timestamp(), resume = null, error = null, cursor_proposed = %s, "
            "stats = %s, partition = case when starts_with(partition, %s) then '' else partition end",
            [_json(cursor), _json(stats), LANE],
        )
        batch.status, batch.resume, batch.cursor_proposed, batch.stats = "sealed", None, cursor, stats

    def fail(self, batch: Batch, error: str, stats: dict[str, Any] | None = None) -> None:
        """Write why the batch stopped; it stays open, to be resumed.

        Raises:
            LandingError: The batch isn't open any more.
        """
        batch.stats = batch.stats if stats is None else stats
        self._change_open(batch, "error = %s, stats = %s", [error, _json(batch.stats)])

    def abandon(self, batch: Batch, why: str) -> None:
        """Give a batch up; the next one starts where it started.

        Raises:
            LandingError: The batch isn't open any more.
        """
        self._change_open(batch, "status = 'abandoned', error = %s", [why])
        batch.status, batch.error = "abandoned", why

    def give_up(self, source: str, batches: list[Batch], why: str) -> set[int]:
        """Give up sealed batches, so that they are never loaded.

        Returns:
            Those that are given up: none while a load of the source is under way, for it may hold them.
        """
        with self.connection.transaction():
            row = self._execute(f"select pg_try_advisory_xact_lock({LOAD_LOCK})", [source]).fetchone()
            if not (row and row[0]):
                return set()
            done = self._execute(
                "update bindery.batches b set status = 'abandoned', error = %s where batch_id = any(%s) and "
                "status = 'sealed' and not exists (select from bindery.load_batches t where t.batch_id = b.batch_id) "
                "returning batch_id",
                [why, [batch.batch_id for batch in batches]],
            ).fetchall()
        self._commit()
        return {batch_id for (batch_id,) in done}

    def seal_shares(self, source: str, stream: str) -> None:
        """Seal what fetches of shares left open when they were killed; none may be under way.

        Each object in them is whole, and what they lack is announced still.
        """
        self._execute(
            "update bindery.batches set status = case when position > 0 then 'sealed' else 'abandoned' end, "
            "sealed_at = clock_timestamp(), partition = '', resume = null, error = null "
            "where (source, stream) = (%s, %s) and status = 'open' and starts_with(partition, %s)",
            [source, stream, LANE],
        )
        self._commit()

    def objects(self, batch_id: int) -> Iterator[LandedObject]:
        """Give the objects of a batch in the order of their positions."""
        last = (-1, -1)
        while True:
            page = self._objects(
                f"select {_OBJECT} from bindery.landed where batch_id = %s and status = 'landed' and "
                "(position, landing_id) > (%s, %s) order by position, landing_id limit %s",
                [batch_id, *last, _PAGE],
            )
            yield from page
            if len(page) < _PAGE:
                return
            last = (page[-1].position or 0, page[-1].landing_id or 0)

    def last_seen(self, source: str, stream: str, origins: list[str] | None = None) -> dict[str, LandedObject]:
        """Give the newest landed object of each origin, for conditional requests and for telling what is new."""
        found = self._objects(
            f"select distinct on (origin) {_OBJECT} from bindery.landed where (source, stream) = (%s, %s) "
            "and status = 'landed' and uri is not null and (%s::text[] is null or origin = any(%s)) and not exists "
            "(select from bindery.batches b where b.batch_id = landed.batch_id and b.status = 'abandoned') "
            "order by origin, landing_id desc",
            [source, stream, origins, origins],
        )
        return {landed.origin: landed for landed in found}

    def announce(
        self, source: str, stream: str, fingerprint: str, origin: str, meta: dict[str, Any] | None = None
    ) -> LandedObject:
        """Say that somebody else put an object at ``origin``; the next fetch lands it.

        The newest row of the origin tells what is new: the same fingerprint again is the same observation (a failed one
        gets its next attempt), another is a new one, so that contents A, B, A are three.
        """
        with self.connection.transaction():
            # One announcer at a time per source: two would both see no row yet.
            self._execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"bindery:announce:{source}"])
            newest = self._objects(
                f"select {_OBJECT} from bindery.landed where (source, stream, origin) = (%s, %s, %s) "
                "order by landing_id desc limit 1",
                [source, stream, origin],
            )
            if newest and newest[0].fingerprint == fingerprint:
                if newest[0].status == "failed":
                    newest = self._objects(
                        "update bindery.landed set status = 'announced', attempt = attempt + 1, batch_id = null, "
                        f"meta = meta - 'error' where landing_id = %s returning {_OBJECT}",
                        [newest[0].landing_id],
                    )
            else:
                newest = self._objects(
                    "insert into bindery.landed (source, stream, status, fingerprint, origin, meta) values "
                    f"(%s, %s, 'announced', %s, %s, %s) returning {_OBJECT}",
                    [source, stream, fingerprint, origin, _json(meta or {})],
                )
        self._commit()
        return newest[0]

    def announced(self, source: str, stream: str | None = None) -> list[LandedObject]:
        """Give the objects that were announced and not landed yet, in order."""
        return self._objects(
            f"select {_OBJECT} from bindery.landed where source = %s and status = 'announced' "
            "and (%s::text is null or stream = %s) order by landing_id",
            [source, stream, stream],
        )

    def announce_listed(self, source: str, stream: str, uploads: list[Upload], *, again: bool) -> None:
        """Announce of what is in a bucket now what isn't known yet; all of it where it shall be landed once more."""
        from dagster_project.ingest.inbox.log import announce_listed

        announce_listed(self.connection, source, stream, uploads, again=again)
        self._commit()

    def mark_failed(self, landing_id: int, error: str, *, gone: bool = False) -> None:
        """Say that an announced object can't be landed; announcing it again gives it another attempt."""
        self._settle(landing_id, "failed", {"error": error, **({"gone": True} if gone else {})})

    def mark_passed(self, landing_id: int, why: str) -> None:
        """Say that nothing of an announced object needs to be landed."""
        self._settle(landing_id, "passed", {"passed": why})

    def _settle(self, landing_id: int, status: str, facts: dict[str, Any]) -> None:
        self._execute(
            "update bindery.landed set status = %s, meta = meta || %s where landing_id = %s and status <> 'landed'",
            [status, _json(facts), landing_id],
        )
        self._commit()

    def _start(self, source: str, stream: str, partition: str) -> Any:
        newest = self.newest_sealed(source, stream, partition)
        if newest is not None:
            return newest.cursor_proposed
        row = self._execute(
            "select cursor from bindery.state where (source, stream, partition, parent) = (%s, %s, %s, '')",
            [source, stream, partition],
        ).fetchone()
        return row[0] if row else None

    def _change_open(self, batch: Batch, changes: str, values: list[Any]) -> None:
        done = self._execute(
            f"update bindery.batches set {changes} where batch_id = %s and status = 'open'", [*values, batch.batch_id]
        )
        if done.rowcount == 0:
            raise _closed(batch)
        self._commit()

    def _batches(self, statement: str, values: list[Any]) -> list[Batch]:
        return [Batch(*row) for row in self._execute(statement, values)]

    def _objects(self, statement: str, values: list[Any]) -> list[LandedObject]:
        return [LandedObject(*row) for row in self._execute(statement, values)]

    def _execute(self, statement: str, values: Any) -> psycopg.Cursor[Any]:
        return self.connection.execute(statement.encode(), values)

    def _commit(self) -> None:
        if not self.connection.autocommit:
            self.connection.commit()


def _json(value: Any) -> Any:
    from psycopg.types.json import Jsonb

    return None if value is None else Jsonb(value)


def _closed(batch: Batch) -> LandingError:
    return LandingError(
        f"batch {batch.batch_id} of {batch.source}.{batch.stream} isn't open any more: another fetch abandoned or "
        "sealed it meanwhile. Run the fetch again"
    )
