"""Sending a message to one sink, through Apprise: mail, webhooks and what else it speaks.

Apprise is imported here alone, when there is something to send. A sink's URL is a secret, and is never said: a sink
goes by its place in the setting and its scheme.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

Tone = Literal["failure", "success", "info"]
_CUT = 2000
"""Characters of a body: chats refuse long ones."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How sending went."""

    good: bool
    reason: str = ""


def scheme(url: str) -> str:
    """Give the only part of a sink's URL that may be said."""
    return url.partition("://")[0] if "://" in url else "not a URL"


def send(url: str, title: str, body: str, tone: Tone) -> Sent:
    """Send one message; whatever is wrong with the sink is in what is given back, nothing is raised."""
    try:
        with _apprise() as apprise:
            sinks = apprise.Apprise()
            if not sinks.add(url):
                return Sent(False, "Apprise doesn't understand its URL: https://appriseit.com/services has them")
            # It sends nothing without a body.
            text = body or title
            text = text if len(text) <= _CUT else text[: _CUT - 4] + " ..."
            good = bool(sinks.notify(title=title, body=text, notify_type=tone, body_format="text"))
    except Exception as error:  # noqa: BLE001 - a sink must never break who watches
        return Sent(False, type(error).__name__)
    return Sent(good, "" if good else "it doesn't answer, or refuses the message")


def understood(url: str) -> bool:
    """Tell whether Apprise knows what a sink's URL means; sends nothing."""
    with _apprise() as apprise:
        return bool(apprise.Apprise().add(url))


@contextmanager
def _apprise() -> Iterator[ModuleType]:
    """Give the library, silent: it says at length what it can't send, URLs and payload included."""
    logger = logging.getLogger("apprise")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        with warnings.catch_warnings():
            # Some of its many parts import what Python is about to drop.
            warnings.simplefilter("ignore")
            import apprise

            yield apprise
    finally:
        logger.level = level
