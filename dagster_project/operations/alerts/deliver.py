"""One round: what is wrong is written down, and every sink is told what it doesn't know yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from dagster_project.operations.alerts import store
from dagster_project.operations.alerts.alert import Alert
from dagster_project.operations.alerts.sinks import Sent, Tone, scheme, send

if TYPE_CHECKING:
    import psycopg

    from dagster_project.settings import Settings

PATIENCE = 25.0
"""Seconds of a round; Dagster ends a sensor that takes a minute. What is left is sent in the next."""
ONE, SEVERAL = 1, 10
"""Alerts that one message names; of more it says the number."""


@dataclass(slots=True)
class Round:
    """What one round did."""

    messages: int = 0
    alerts: int = 0
    silent: dict[str, str] = field(default_factory=dict)
    """Sinks that couldn't be told, with the reason."""


def urls(settings: Settings) -> list[str]:
    """Give the sinks."""
    return settings.alert_urls.get_secret_value().split() if settings.alert_urls else []


def repeat_seconds(settings: Settings) -> float:
    """Give the time after which an alert that still holds is said again."""
    from dagster_project.ingest.durations import parse_duration

    return cast("float", parse_duration(settings.alert_repeat))


def deliver(connection: psycopg.Connection[Any], settings: Settings) -> Round:
    """Tell every sink what is due. A sink that can't be told is tried again in the next round.

    Who is killed between sending and writing it down says it twice: rather that than never.
    """
    done = Round()
    until = time.monotonic() + PATIENCE
    sinks = urls(settings)
    with store.sending(connection) as mine:
        if not mine:
            return done
        for number, url in enumerate(sinks):
            said = store.due(connection, number, repeat_seconds(settings))
            if not said.raised and not said.over:
                continue
            if time.monotonic() > until:
                done.silent[named(number, url)] = "no time left in this round"
                continue
            sent = tell(url, said, settings)
            if sent.good:
                store.told(connection, number, said)
                done.messages += 1
                done.alerts += len(said.raised) + len(said.over)
            else:
                done.silent[named(number, url)] = sent.reason
                logging.getLogger(__name__).warning("alerts: %s: %s", named(number, url), sent.reason)
        store.tidy(connection, len(sinks))
    return done


def named(number: int, url: str) -> str:
    """Name a sink without telling its URL."""
    return f"sink {number + 1} ({scheme(url)})"


def tell(url: str, said: store.Due, settings: Settings) -> Sent:
    """Put everything that a sink is to be told into one message."""
    title, body, tone = message(said.raised, said.over)
    return send(url, f"Bindery ({settings.project}): {title}", body, tone)


def message(raised: Sequence[Alert], over: Sequence[Alert]) -> tuple[str, str, Tone]:
    """Write title and text of a message."""
    tone: Tone = "failure" if raised else "success"
    parts = [*(alert.title for alert in raised), *(f"over: {alert.title}" for alert in over)]
    if len(parts) == ONE:
        body = raised[0].body if raised else "It is good again."
        return parts[0], body, tone
    counts = [f"{len(raised)} alerts"] if raised else []
    counts += [f"{len(over)} over"] if over else []
    lines = [f"- {alert.title}\n  {alert.body.replace(chr(10), chr(10) + '  ')}" for alert in raised[:SEVERAL]]
    if len(raised) > SEVERAL:
        lines.append(f"- and {len(raised) - SEVERAL} more: `bindery alert list`")
    lines += [f"- over: {alert.title}" for alert in over[:SEVERAL]]
    return ", ".join(counts), "\n".join(lines), tone
