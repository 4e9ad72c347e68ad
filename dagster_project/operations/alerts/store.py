"""What the warehouse remembers of alerts: which hold, since when, and which sink was told of which.

Every function is one or a few statements on a connection in autocommit; who sends holds ``sending`` meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.operations.alerts.alert import Alert, Kind

if TYPE_CHECKING:
    import psycopg

LOCK = 0x62696E64_0003
"""Advisory lock of whoever sends."""
SETTLED = "5 minutes"
"""Over is what has been good for so long; until then it is the same trouble."""
FORGOTTEN = "7 days"
"""A failed run that nothing came after isn't repeated for ever."""


@dataclass(frozen=True, slots=True)
class Due:
    """What one sink is to be told now."""

    raised: tuple[Alert, ...]
    over: tuple[Alert, ...]


def raise_alerts(connection: psycopg.Connection[Any], alerts: Iterable[Alert]) -> None:
    """Write down what holds now; what held already keeps its time and who was told."""
    for alert in alerts:
        connection.execute(
            "insert into bindery.alerts (key, kind, title, body) values (%s, %s, %s, %s) "
            "on conflict (key) do update set title = excluded.title, body = excluded.body, seen_at = now(), "
            "over_at = null, raised_at = case when alerts.over_at is null then alerts.raised_at else now() end",
            (alert.key, alert.kind, alert.title, alert.body),
        )


def settle(connection: psycopg.Connection[Any], kind: Kind, holding: Collection[str]) -> None:
    """Write down that every other alert of a kind doesn't hold any more."""
    connection.execute(
        "update bindery.alerts set over_at = now() where kind = %s and over_at is null and not key = any(%s)",
        (kind, list(holding)),
    )


def end(connection: psycopg.Connection[Any], keys: Collection[str]) -> None:
    """Write down that these alerts don't hold any more."""
    connection.execute(
        "update bindery.alerts set over_at = now() where over_at is null and key = any(%s)", (list(keys),)
    )


def open_keys(connection: psycopg.Connection[Any], kind: Kind) -> set[str]:
    """Give the alerts of a kind that hold."""
    rows = connection.execute("select key from bindery.alerts where kind = %s and over_at is null", (kind,))
    return {row[0] for row in rows}


@contextlib.contextmanager
def sending(connection: psycopg.Connection[Any]) -> Iterator[bool]:
    """Be the only one who sends; gives False where another is. It goes with the session, however that ends."""
    row = connection.execute("select pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
    mine = row is not None and bool(row[0])
    try:
        yield mine
    finally:
        if mine and not connection.closed:
            connection.execute("select pg_advisory_unlock(%s)", (LOCK,))


def due(connection: psycopg.Connection[Any], sink: int, repeat_seconds: float) -> Due:
    """Give what a sink hasn't been told, or not within the time after which it is said again."""
    raised = connection.execute(
        "select a.key, a.kind, a.title, a.body from bindery.alerts a "
        "left join bindery.alert_deliveries d on d.key = a.key and d.sink = %s "
        "where a.over_at is null and (d.sent_at is null or d.sent_at <= now() - make_interval(secs => %s)) "
        "order by a.raised_at, a.key",
        (sink, repeat_seconds),
    ).fetchall()
    over = connection.execute(
        "select a.key, a.kind, a.title, a.body from bindery.alerts a "
        "join bindery.alert_deliveries d on d.key = a.key and d.sink = %s "
        "where a.over_at <= now() - %s::interval order by a.over_at, a.key",
        (sink, SETTLED),
    ).fetchall()
    return Due(tuple(Alert(*row) for row in raised), tuple(Alert(*row) for row in over))


def told(connection: psycopg.Connection[Any], sink: int, said: Due) -> None:
    """Write down that a sink was told."""
    with connection.transaction():
        connection.execute(
            "insert into bindery.alert_deliveries (key, sink, sent_at) "
            "select key, %s, now() from bindery.alerts where key = any(%s) "
            "on conflict (key, sink) do update set sent_at = excluded.sent_at",
            (sink, [alert.key for alert in said.raised]),
        )
        connection.execute(
            "delete from bindery.alert_deliveries where sink = %s and key = any(%s)",
            (sink, [alert.key for alert in said.over]),
        )


def tidy(connection: psycopg.Connection[Any], sinks: int) -> None:
    """Forget what is over and told, sinks that are gone, and failed runs that nothing came after."""
    connection.execute("delete from bindery.alert_deliveries where sink >= %s", (sinks,))
    connection.execute(
        "delete from bindery.alerts a where (a.over_at <= now() - %s::interval and not exists "
        "(select from bindery.alert_deliveries d where d.key = a.key)) or a.over_at <= now() - %s::interval "
        "or (a.kind = 'run' and a.seen_at <= now() - %s::interval)",
        (SETTLED, FORGOTTEN, FORGOTTEN),
    )
