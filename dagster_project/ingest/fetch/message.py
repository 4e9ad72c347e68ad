"""What goes out and what comes back: requests, answers, and the failure to get one."""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from requests.structures import CaseInsensitiveDict

from dagster_project.ingest.errors import TransientSourceError

_YEAR = 366 * 86400.0


class RequestFailed(TransientSourceError):
    """A request failed in a way that may pass, and trying again didn't help or wasn't allowed."""

    def __init__(self, message: str, *, status: int | None = None, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.status = status
        """Of the last answer, where there was one."""
        self.retry_at = retry_at
        """When the host says that it may be asked again."""


@dataclass(slots=True)
class Request:
    """What to ask. Credentials are not part of it: the client adds them for the host that they belong to."""

    url: str
    method: str = "GET"
    params: dict[str, str] = field(default_factory=dict)
    """Added to the URL's query, in place of what is there under the same name."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent to the base URL's own host only, as they may hold secrets."""
    json_body: Any = None
    form: dict[str, str] | None = None
    repeatable: bool | None = None
    """Whether asking twice does no harm; by default GET and HEAD."""
    authenticate: bool = True

    @property
    def full_url(self) -> str:
        """The URL with the parameters."""
        return with_params(self.url, self.params)


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    url: str
    """Final, after redirects, without secrets."""
    headers: CaseInsensitiveDict[str]
    elapsed: float
    """Seconds from sending to the last byte."""
    content: bytes = b""
    """The body, unless it is in ``file``."""
    file: IO[bytes] | None = None
    """A large body, from its start."""
    size: int = 0

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    @property
    def not_modified(self) -> bool:
        """Whether what was there the last time is still right (304)."""
        return self.status == 304

    @property
    def media_type(self) -> str | None:
        """The type of the body, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None

    def read(self) -> bytes:
        """Give the whole body."""
        if self.file is None:
            return self.content
        self.file.seek(0)
        return self.file.read()

    def body(self) -> bytes | IO[bytes]:
        """Give the body as ``StreamBatch.land`` takes it, from its start."""
        if self.file is None:
            return self.content
        self.file.seek(0)
        return self.file

    def close(self) -> None:
        """Let go of a large body."""
        if self.file is not None:
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def retry_after(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Give the seconds that a ``Retry-After`` (seconds or HTTP date, RFC 9110) asks to wait; None where it says none.

    A date is measured against the answer's own ``Date``, so that clocks that differ don't make us early. More than a
    year is a year: longer is meant by nobody, and dates end somewhere.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), _YEAR)
    until = _http_date(text)
    if until is None:
        return None
    return min(_YEAR, max(0.0, (until - (_http_date(headers.get("Date", "")) or now())).total_seconds()))


def chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and, one after another, those that it wraps: the innermost is what happened."""
    inner: Any = error
    while isinstance(inner, BaseException):
        yield inner
        following = next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        inner = following or getattr(inner, "reason", None) or inner.__cause__


def _http_date(text: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def with_params(url: str, params: Mapping[str, str]) -> str:
    """Add parameters to a URL's query, in place of those under the same names; the others stay byte for byte."""
    if not params:
        return url
    parts = urlsplit(url)
    names = {urlencode({name: ""}) for name in params}
    kept = [pair for pair in parts.query.split("&") if pair and pair.partition("=")[0] + "=" not in names]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(params)])))
