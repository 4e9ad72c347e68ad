"""One fetch of a source at a time, wherever it runs: an advisory lock that dies with its holder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dagster_project.ingest.errors import TransientSourceError

if TYPE_CHECKING:
    import psycopg


@contextmanager
def source_lock(
    connection: psycopg.Connection,
    source: str,
    *,
    wait: float = 60.0,
    on_wait: Callable[[str], None] = lambda _message: None,
    lane: str | None = None,
) -> Iterator[None]:
    """Be the only fetch of a source; the database frees the lock when its holder dies.

    Args:
        connection: Holds the lock; give it back unclosed.
        source: The source's name.
        wait: Seconds to wait for another holder.
        on_wait: Told once who holds the lock.
        lane: Of a share of the source, such as ``2/3``: beside other shares.

    Raises:
        TransientSourceError: Another fetch still held it after ``wait``.
    """
    key = f"bindery:fetch:{source}"
    deadline = time.monotonic() + wait
    told = False
    while not (take_source_lock(connection, source) if lane is None else take_lane_lock(connection, source, lane)):
        holder = _holder(connection, key)
        if time.monotonic() >= deadline:
            raise TransientSourceError(
                f"another fetch of {source!r} is under way ({holder}) and didn't end within {wait:g} s: "
                "wait for it or stop it"
            )
        if not told:
            on_wait(f"waiting for another fetch of {source!r} ({holder})")
            told = True
        time.sleep(0.2)
    try:
        yield
    finally:
        if lane is None:
            _free(connection, key)
        else:
            _free(connection, f"{key}:{lane}")
            _free(connection, key, shared=True)


def take_source_lock(connection: psycopg.Connection, source: str) -> bool:
    """Try to be the only fetch of a source, without waiting."""
    row = connection.execute(
        "select pg_try_advisory_lock(hashtextextended(%s, 0))", [f"bindery:fetch:{source}"]
    ).fetchone()
    if not connection.autocommit:
        connection.commit()
    return bool(row and row[0])


def take_lane_lock(connection: psycopg.Connection, source: str, lane: str) -> bool:
    """Try to be the only fetch of a share of a source, beside other shares and no fetch of the whole, without waiting.

    Args:
        connection: Holds the locks; they go with it.
        source: The source's name.
        lane: Which share, such as ``2/3``.
    """
    row = connection.execute(
        "select pg_try_advisory_lock_shared(hashtextextended(%s, 0))", [f"bindery:fetch:{source}"]
    ).fetchone()
    if not (row and row[0]):
        return False
    row = connection.execute(
        "select pg_try_advisory_lock(hashtextextended(%s, 0))", [f"bindery:fetch:{source}:{lane}"]
    ).fetchone()
    if row and row[0]:
        return True
    connection.execute("select pg_advisory_unlock_shared(hashtextextended(%s, 0))", [f"bindery:fetch:{source}"])
    return False


def _holder(connection: psycopg.Connection, key: str) -> str:
    row = connection.execute(
        "select l.pid, to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from pg_locks l left join "
        "pg_stat_activity a using (pid), hashtextextended(%s, 0) k where l.locktype = 'advisory' and l.granted and "
        "l.objsubid = 1 and (l.classid::bigint << 32 | l.objid::bigint) = k limit 1",
        [key],
    ).fetchone()
    if row is None:
        return "just ended"
    return f"database session {row[0]}" + (f", since {row[1]} UTC" if row[1] else "")


def _free(connection: psycopg.Connection, key: str, *, shared: bool = False) -> None:
    import psycopg

    kind = "_shared" if shared else ""
    try:
        connection.execute(f"select pg_advisory_unlock{kind}(hashtextextended(%s, 0))".encode(), [key])
        if not connection.autocommit:
            connection.commit()
    except psycopg.OperationalError:
        pass  # the connection is gone, and the lock with it
