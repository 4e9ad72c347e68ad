"""Sending a message to one sink, through Apprise: mail, webhooks and what else it speaks.

Apprise is imported here alone, when there is something to send. A sink's URL is a secret, and is never said: a sink
goes by its place in the setting and its scheme.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import ModuleType
from typing import Literal

Tone = Literal["failure", "success", "info"]
_CUT = 2000
"""Characters of a body: chats refuse long ones."""
_SILENT = (
    (r"connection refused", "connection refused: is it running, is the port right?"),
    (r"resolve|getaddrinfo|name or service|nodename|name resolution", "no such host name"),
    (r"certificate|\bssl\b|\btls\b|sslerror", "its TLS certificate isn't accepted, or it speaks no TLS"),
    (r"timed out|timeout", "no answer in time"),
    (r"unreachable|no route", "no way to its network"),
    (r"closed|reset|aborted", "it closed the connection"),
)
"""What libraries say of a connection, and our words for it: theirs may hold the URL."""


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
        with _apprise() as (apprise, said):
            sinks = apprise.Apprise()
            if not sinks.add(url):
                return Sent(False, "Apprise doesn't understand its URL: https://appriseit.com/services has them")
            # It sends nothing without a body.
            text = body or title
            text = text if len(text) <= _CUT else text[: _CUT - 4] + " ..."
            good = bool(sinks.notify(title=title, body=text, notify_type=tone, body_format="text"))
            return Sent(good, "" if good else why(said))
    except Exception as error:  # noqa: BLE001 - a sink must never break who watches
        return Sent(False, type(error).__name__)


def why(said: Sequence[str]) -> str:
    """Tell from what Apprise said of a failed message what is wrong, in words of our own."""
    text = "\n".join(said)
    if (found := re.search(r"\berror=(\d{3})\b", text)) is not None:
        status = int(found.group(1))
        known = {each.value: each.phrase for each in HTTPStatus}
        return f"it refuses the message: HTTP {status} {known.get(status, '')}".rstrip()
    # Of SMTP the library gives the answer as a pair, or as one for each recipient.
    if (found := re.search(r"\(([45]\d\d), b?['\"]", text)) is not None:
        code = found.group(1)
        return f"it refuses the message: SMTP {code}" + (" (the login is wrong)" if code == "535" else "")
    for pattern, words in _SILENT:
        if re.search(pattern, text, re.IGNORECASE):
            return f"it doesn't answer: {words}"
    return "it doesn't answer, or refuses the message"


def understood(url: str) -> bool:
    """Tell whether Apprise knows what a sink's URL means; sends nothing."""
    with _apprise() as (apprise, _):
        return bool(apprise.Apprise().add(url))


class _Kept(logging.Handler):
    """Keeps what is said of errors, for this process's eyes alone."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # Beside these it tells, letter by letter, what it sends.
        if record.levelno >= logging.WARNING or "Exception" in text:
            self.said.append(text)


@contextmanager
def _apprise() -> Iterator[tuple[ModuleType, list[str]]]:
    """Give the library and what it says: kept from every log, URLs and payload are in it."""
    logger = logging.getLogger("apprise")
    kept = _Kept()
    before = logger.level, logger.propagate, logger.handlers
    logger.level, logger.propagate, logger.handlers = logging.DEBUG, False, [kept]
    try:
        with warnings.catch_warnings():
            # Some of its many parts import what Python is about to drop.
            warnings.simplefilter("ignore")
            import apprise

            logger.handlers = [kept]
            yield apprise, kept.said
    finally:
        logger.level, logger.propagate, logger.handlers = before
