"""Announcements in the landing log: what is new of a key, whichever of several reports says so, in whatever order.

For each key the newest row tells. A report is late, and changes nothing, when its sequencer isn't above that row's; it
is the same observation when the ETag is the same; otherwise it is a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.fetch.uploads import Upload

WIDTH: Final = 64
"""Sequencers are hexadecimal texts of differing length: the shorter one is filled up with zeros at its right."""
ATTEMPTS: Final = 5
"""Tries that an upload gets without anybody asking for another."""
_LOCK = "select pg_advisory_xact_lock(hashtextextended('bindery:announce:' || %s, 0))"
_NEWEST = (
    "select landing_id, status, meta from bindery.landed l where (source, stream, origin) = (%s, %s, %s) "
    "and not exists (select from bindery.batches b where b.batch_id = l.batch_id and b.status = 'abandoned') "
    "order by landing_id desc limit 1"
)
_INSERT = (
    "insert into bindery.landed (source, stream, status, fingerprint, origin, meta) "
    "values (%s, %s, 'announced', %s, %s, %s)"
)
_AGAIN = "status = 'announced', attempt = attempt + 1, batch_id = null, position = null"
# A list of what is there now. Rows of the log are compared by ETag; `again` asks for everything once more.
_LISTED = (
    "with listed as (select * from jsonb_to_recordset(%(found)s) as f(fingerprint text, origin text, meta jsonb)), "
    "compared as (select f.*, newest.* from listed f left join lateral (select l.status, l.meta ->> 'etag' as etag, "
    "l.meta ? 'gone' as gone from bindery.landed l where (l.source, l.stream, l.origin) = (%(source)s, %(stream)s, "
    "f.origin) and not exists (select from bindery.batches b where b.batch_id = l.batch_id and b.status = 'abandoned') "
    "order by l.landing_id desc limit 1) newest on true) "
    "insert into bindery.landed (source, stream, status, fingerprint, origin, meta) "
    "select %(source)s, %(stream)s, 'announced', fingerprint, origin, meta from compared "
    "where etag is distinct from (meta ->> 'etag') or gone and status = 'failed' "
    "or (%(again)s and status <> 'announced') order by origin"
)
_PENDING = (
    "select count(*), count(*) filter (where status = 'announced'), max(landing_id), max(attempt) from (select "
    "l.landing_id, l.attempt, l.status from bindery.landed l where l.source = %(source)s and l.status = 'announced' "
    "union all select l.landing_id, l.attempt, l.status from bindery.landed l join bindery.batches b using (batch_id) "
    "where b.source = %(source)s and b.status in ('sealed', 'open') and l.status = 'landed' and l.meta ? 'bucket' "
    "and not exists (select from bindery.load_batches t where t.batch_id = b.batch_id)) waiting"
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a source waits for a run."""

    objects: int
    announced: int
    """Those that aren't landed yet."""
    newest: int
    """Landing id."""
    attempt: int

    @property
    def run_key(self) -> str:
        """Name the run that shall take it: the same for as long as nothing is added and nothing is tried again."""
        return f"{self.newest}:{self.attempt}"


def announce(connection: psycopg.Connection[Any], source: str, stream: str, uploads: Sequence[Upload]) -> int:
    """Write what notifications report of a stream; tell how many were news. One commit."""
    with connection.transaction():
        # One announcer at a time per source: two would both see no row yet.
        connection.execute(_LOCK, [source])
        return sum(_announce_one(connection, source, stream, upload) for upload in uploads)


def _announce_one(connection: psycopg.Connection[Any], source: str, stream: str, upload: Upload) -> bool:
    newest = connection.execute(_NEWEST.encode(), [source, stream, upload.origin]).fetchone()
    if newest is not None:
        landing_id, status, meta = newest
        known = meta.get("sequencer")
        if known and upload.sequencer and _rank(upload.sequencer) <= _rank(known):
            return False
        if meta.get("etag") == upload.etag:
            # The same bytes. Put once more after a failure, they are to be tried once more.
            retried = status == "failed" and (bool(known) or "gone" in meta)
            added = {"sequencer": upload.sequencer} if upload.sequencer else {}
            if upload.version and "version" not in meta:
                added["version"] = upload.version
            connection.execute(
                f"update bindery.landed set meta = (meta - %s::text[]) || %s{', ' + _AGAIN if retried else ''} "
                "where landing_id = %s".encode(),
                [["error", "gone"] if retried else [], Jsonb(added), landing_id],
            )
            return retried
        if not known and upload.happened and _before(upload, meta.get("modified_at")):
            return False
    connection.execute(_INSERT, [source, stream, upload.fingerprint, upload.origin, Jsonb(upload.meta)])
    return True


def forget_removed(connection: psycopg.Connection[Any], source: str, stream: str, origin: str, sequencer: str) -> None:
    """Note that an object was removed: what was reported of it before is late from now on. Its rows stay."""
    with connection.transaction():
        connection.execute(_LOCK, [source])
        newest = connection.execute(_NEWEST.encode(), [source, stream, origin]).fetchone()
        if newest is None or _rank(sequencer) <= _rank(newest[2].get("sequencer") or ""):
            return
        # What is announced is settled by the fetch, which finds nothing there; a version may be there still.
        connection.execute(
            "update bindery.landed set meta = meta || %s where landing_id = %s",
            [Jsonb({"sequencer": sequencer, "removed": True}), newest[0]],
        )


def announce_listed(
    connection: psycopg.Connection[Any], source: str, stream: str, uploads: Sequence[Upload], *, again: bool = False
) -> int:
    """Announce of a list of what is there now what the log doesn't know; tell how many. One commit.

    Args:
        connection: As the loader.
        source: The source's name.
        stream: The stream that wants the objects.
        uploads: The list.
        again: Whether what is known shall be landed once more.
    """
    found = [{"fingerprint": each.fingerprint, "origin": each.origin, "meta": each.meta} for each in uploads]
    with connection.transaction():
        connection.execute(_LOCK, [source])
        done = connection.execute(
            _LISTED.encode(), {"found": Jsonb(found), "source": source, "stream": stream, "again": again}
        )
        return done.rowcount


def waiting(connection: psycopg.Connection[Any], source: str) -> Waiting | None:
    """Tell what of a source is announced, or landed and not loaded; None where nothing waits.

    What is landed in an open batch waits too: the fetch that opened it was killed before it could seal it.
    """
    row = connection.execute(_PENDING.encode(), {"source": source}).fetchone()
    return Waiting(row[0], row[1], row[2], row[3]) if row and row[0] else None


def try_again(connection: psycopg.Connection[Any], source: str, older: float) -> int:
    """Give what waits for long another attempt, so that a run is asked for anew; tell how many there are.

    Args:
        connection: As the loader.
        source: Of which no run is under way.
        older: Seconds since it was announced.
    """
    done = connection.execute(
        "update bindery.landed l set attempt = attempt + 1 where l.source = %(source)s and l.meta ? 'bucket' and "
        "l.attempt < %(most)s and l.observed_at < now() - make_interval(secs => %(older)s * l.attempt) and "
        "(l.status = 'announced' or l.status = 'landed' and exists (select from bindery.batches b where b.batch_id = "
        "l.batch_id and b.status in ('sealed', 'open') and not exists (select from bindery.load_batches t "
        "where t.batch_id = b.batch_id)))",
        {"source": source, "most": ATTEMPTS, "older": older},
    )
    return done.rowcount


def note_poison(connection: psycopg.Connection[Any], message_id: str, reason: str, body: str, receives: int) -> None:
    """Write down a message that nobody can make anything of, so that people see it before its dead letter."""
    text = body[:4096].replace("\0", "\ufffd")
    connection.execute(
        "insert into bindery.inbox_poison (message_id, reason, body, receives) values (%s, %s, %s, %s) "
        "on conflict (message_id) do update set receives = excluded.receives, seen_at = now()",
        [message_id, reason, text, receives],
    )


def _rank(sequencer: str) -> str:
    return sequencer.upper().ljust(WIDTH, "0")


def _before(upload: Upload, modified: str | None) -> bool:
    """Tell whether a report is of a time before what a listing found was written."""
    from datetime import datetime

    return bool(modified and upload.happened and upload.happened < datetime.fromisoformat(modified))
