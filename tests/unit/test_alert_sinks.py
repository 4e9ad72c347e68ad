"""Why a sink couldn't be told: in words of our own, from what the library said, which may hold the sink's URL."""

from __future__ import annotations

import logging
import socket

import pytest

from dagster_project.operations.alerts.sinks import send, why

TOKEN = "t0ken-of-the-sink"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Failed to send JSON POST notification: error=500.", "it refuses the message: HTTP 500 Internal Server Error"),
        ("Failed to send Slack notification: error=401.", "it refuses the message: HTTP 401 Unauthorized"),
        ("Failed to send: error=599.", "it refuses the message: HTTP 599"),
        ("Socket Exception: (535, b'5.7.8 no')", "it refuses the message: SMTP 535 (the login is wrong)"),
        ("Socket Exception: {'a@b': (550, b'no such user')}", "it refuses the message: SMTP 550"),
        ("Socket Exception: [Errno 111] Connection refused", "it doesn't answer: connection refused"),
        ("Socket Exception: Failed to resolve 'x' ([Errno -2] ...)", "it doesn't answer: no such host name"),
        ("Socket Exception: Read timed out. (read timeout=4.0)", "it doesn't answer: no answer in time"),
        ("Socket Exception: certificate verify failed", "it doesn't answer: its TLS certificate"),
        ("something else", "it doesn't answer, or refuses the message"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(said: str, reason: str) -> None:
    assert why([f"a word before of https://x/{TOKEN}", said]).startswith(reason)
    assert TOKEN not in why([f"https://x/{TOKEN}", said])


def test_a_sink_that_is_not_there_is_told_from_one_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logger = logging.getLogger("apprise")
    before = logger.level, logger.propagate, list(logger.handlers)
    mail = f"mailto://127.0.0.1:{port}?from=a@example.org&to=b@example.org&user=x&pass={TOKEN}&mode=insecure"
    for url in (f"json://user:{TOKEN}@127.0.0.1:{port}/{TOKEN}", mail):
        sent = send(url, "t", "b", "info")
        assert not sent.good
        assert sent.reason.startswith("it doesn't answer: connection refused"), sent.reason
    assert TOKEN not in caplog.text
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
