"""Talking HTTP: one client per fetch, over a ``requests`` session, for APIs and web pages alike.

It keeps the pace of each host, tries again what may pass, follows redirects by hand, bounds every answer, refuses what
leads into private networks, and lets no secret into a message. What an answer means is the fetchers' matter: any status
that isn't worth another try is an ``Answer``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import requests
import urllib3
from requests.cookies import extract_cookies_to_jar
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from dagster_project.ingest.cards.http import HttpOptions
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.auth import Auth, Credentials, Fixed, basic
from dagster_project.ingest.fetch.body import Truncated, read_body
from dagster_project.ingest.fetch.deadline import DeadlinePassed
from dagster_project.ingest.fetch.limiter import Breaker, Limiter, Limiters
from dagster_project.ingest.fetch.message import Answer, Request, RequestFailed, chain, retry_after, with_params
from dagster_project.ingest.fetch.network import (
    ForbiddenTarget,
    GuardedAdapter,
    Hosts,
    host_of,
    join_url,
    without_login,
)
from dagster_project.ingest.fetch.redact import Redactor
from dagster_project.ingest.fetch.report import StreamFetch

if TYPE_CHECKING:
    from dagster_project.ingest.fetch.session import FetchSession

__all__ = ["Answer", "HttpClient", "Request", "RequestFailed", "with_params"]
REDIRECTS = 10
CONNECTIONS = 16
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_ERROR_BODY = 64 * 1024
_FIRST_PAUSE = 0.5  # seconds: the first pause is drawn between 0 and this, and doubles
_COOL = 30.0  # seconds for which a host that is down isn't asked


class _Again(Exception):
    """One try failed in a way that may pass."""

    def __init__(self, message: str, *, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait


class _Late(_Again):
    """One try took a whole ``deadline``: another would cost as much, and is left to the next fetch."""


class HttpClient:
    """Asks hosts as a card says. Safe for threads; close it, or use it as a context manager."""

    def __init__(
        self,
        options: HttpOptions,
        base_url: str,
        *,
        contact: str,
        redactor: Redactor | None = None,
        headers: Mapping[str, str] | None = None,
        interval: float = 0.0,
        limiters: Limiters | None = None,
        before: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make a client.

        Args:
            options: The card's.
            base_url: Names the host that may be asked and gets the credentials; a user and password in it are some.
            contact: Who asks: part of the User-Agent.
            redactor: Knows the secrets.
            headers: The card's own, sent to the base URL's host only.
            interval: Seconds between two requests to one host.
            limiters: Pace of each host; by ``interval`` otherwise.
            before: Called before each request is sent.
            sleep: Waits.
        """
        self.options = options
        self.redactor = redactor or Redactor()
        self.base_url, login = without_login(base_url)
        """Without user and password, which become credentials."""
        self.auth: Auth | None = None
        if login is not None:
            self.redactor.add(login[1], "password")
            self.auth = Fixed(Credentials(headers={"Authorization": basic(*login)}))
        self.hosts = Hosts(base_url, options.allowed_hosts, allow_private=options.allow_private)
        self.limiters = limiters or Limiters(lambda: Limiter(interval, sleep=sleep))
        self._headers = dict(headers or {})
        self._contact = contact
        self._before = before
        self._sleep = sleep
        self._siblings: list[HttpClient] = []
        self._lock = threading.Lock()
        self._budget = options.http_retry.budget
        self._breaker = Breaker(max(10, 2 * options.http_retry.attempts), _COOL)
        self._session = requests.Session()
        self._common = {"User-Agent": user_agent(contact), "Accept-Encoding": "gzip, deflate"}
        self._adapter = GuardedAdapter(self.hosts, CONNECTIONS, options.deadline)
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, _Again) and not isinstance(error, _Late)),
            stop=stop_after_attempt(options.http_retry.attempts),
            wait=self._pause,
            before_sleep=self._spend,
            sleep=sleep,
            reraise=True,
        )

    @classmethod
    def of(cls, session: FetchSession, options: HttpOptions, base_url: str, **more: Any) -> Self:
        """Make the client of a fetch session."""
        return cls(
            options,
            base_url,
            contact=session.runtime.contact,
            redactor=session.redactor,
            before=lambda: session.runtime.checkpoint("fetch"),
            **{"interval": session.interval(options.rate_limit), **more},
        )

    def send(self, request: Request, *, figures: StreamFetch | None = None) -> Answer:
        """Ask, try again what may pass, follow redirects, and give what came back.

        Raises:
            RequestFailed: No answer worth having after all tries, or the host asks to wait longer than allowed.
            ForbiddenTarget: The URL, a redirect or the address behind it isn't allowed.
            BodyTooLarge: The answer is past its bounds.
            SourceError: The answer can't be read, or redirects never end.
        """
        figures = figures if figures is not None else StreamFetch()
        repeatable = request.repeatable if request.repeatable is not None else request.method in {"GET", "HEAD"}
        try:
            if not repeatable:
                return self._try(request, figures)
            for attempt in self._retrying:
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        self._count(figures, retries=1)
                    return self._try(request, figures)
        except _Again as error:
            what = f"{request.method} {self.redactor.url(request.full_url)}"
            again = repeatable and not isinstance(error, _Late)
            tries = f" after {self.options.http_retry.attempts} tries" if again else ", and isn't tried again"
            raise RequestFailed(f"{what}: {error}{tries}", status=error.status) from None
        raise AssertionError("tenacity ends with a result or an exception")

    def get(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        headers: Mapping[str, str] | None = None,
        figures: StreamFetch | None = None,
    ) -> Answer:
        """Get a URL; with ``etag`` or ``last_modified`` of the last time only if it has changed."""
        own = dict(headers or {})
        if etag:
            own["If-None-Match"] = etag
        if last_modified:
            own["If-Modified-Since"] = last_modified
        return self.send(Request(url, headers=own), figures=figures)

    def refusal(self, answer: Answer, hint: str = "") -> SourceError:
        """Say that an answer's status means that the card or the source is wrong."""
        hints = {
            401: "the credentials are missing or wrong: see `auth` in the card",
            403: "access is refused: see `auth` in the card, and whether the source wants to be read",
            404: "nothing is there: see `path` in the card, or set `not_found: ignore`",
        }
        hint = hint or hints.get(answer.status, "")
        body = self.redactor.start(answer.content)
        return SourceError(
            f"{answer.url} answered {answer.status}" + (f": {hint}" if hint else "") + (f" ({body!r})" if body else "")
        )

    def limiter(self, url: str) -> Limiter:
        """Give the pace of a URL's host, to read or to change."""
        return self.limiters.of(host_of(urlsplit(url)))

    def sibling(self, base_url: str) -> HttpClient:
        """Make a client for another host that the card names (a token's): same manners, none of the credentials."""
        other = HttpClient(
            self.options,
            base_url,
            contact=self._contact,
            redactor=self.redactor,
            limiters=self.limiters,
            before=self._before,
            sleep=self._sleep,
        )
        self._siblings.append(other)
        return other

    def close(self) -> None:
        """Close all connections."""
        for sibling in self._siblings:
            sibling.close()
        self._adapter.close()
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try(self, request: Request, figures: StreamFetch) -> Answer:
        """Ask once, redirects and one renewal of the credentials included."""
        method, url = request.method, request.full_url
        renewed = False
        hops = 0
        while True:
            credentials = self.auth.credentials() if self.auth and request.authenticate else Credentials()
            answer = self._exchange(request, method, url, credentials, figures)
            if answer.status in _REDIRECTED and "Location" in answer.headers:
                hops += 1
                if hops > REDIRECTS:
                    raise SourceError(f"{self.redactor.url(request.full_url)}: more than {REDIRECTS} redirects")
                method, url = self._redirected(answer, method, url, request)
            elif answer.status == 401 and not renewed and self.auth and request.authenticate and self.hosts.owns(url):
                renewed = True
                if not self.auth.renew(credentials):
                    return answer
            else:
                return answer

    def _redirected(self, answer: Answer, method: str, url: str, request: Request) -> tuple[str, str]:
        target = self.hosts.upgrade(join_url(url, answer.headers["Location"]))
        self._check(target, f"the redirect of {answer.url}")
        if answer.status in {301, 302, 303} and method == "POST":
            method = "GET"
        if method == "POST" and not self.hosts.owns(target):
            where = self.redactor.url(target)
            raise SourceError(f"{answer.url} redirects a POST to {where}, another host: not followed")
        return method, target

    def _exchange(
        self, request: Request, method: str, url: str, credentials: Credentials, figures: StreamFetch
    ) -> Answer:
        """Send one request and read its answer."""
        url, _ = without_login(url)
        parts = self._check(url, "the request")
        host = host_of(parts)
        if (pause := self._breaker.closed_for(host)) > 0:
            raise RequestFailed(f"{host} failed too often: it isn't asked for another {pause:.0f} s")
        prepared = self._prepare(request, method, url, credentials)
        self.limiters.of(host).wait()
        self._before()
        self._count(figures, requests=1)
        started = time.monotonic()
        try:
            response = self._adapter.send(
                prepared,
                stream=True,
                timeout=(self.options.timeout, self.options.timeout),
                verify=self.options.verify_tls,
                proxies={},
            )
        except requests.exceptions.SSLError as error:
            raise self._tls(error, host) from None
        except (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            urllib3.exceptions.HTTPError,
        ) as error:
            raise self._broken("no answer", error, host) from None
        except (requests.exceptions.RequestException, ValueError) as error:
            raise SourceError(f"{self.redactor.url(url)} can't be asked: {self._reason(error)}") from None
        with response:
            extract_cookies_to_jar(self._session.cookies, prepared, response.raw)  # type: ignore[no-untyped-call]
            answer = Answer(response.status_code, self.redactor.url(url), response.headers, 0.0)
            if answer.status in RETRIED:
                raise self._again(answer, host)
            self._breaker.answered(host)
            self._read(response, answer, method, host)
            answer.elapsed = time.monotonic() - started
        return answer

    def _read(self, response: requests.Response, answer: Answer, method: str, host: str) -> None:
        if method == "HEAD" or answer.status in {204, 304}:
            return
        failed = answer.status >= 300
        try:
            answer.content, answer.file, answer.size = read_body(
                response.raw,
                answer.headers.get("Content-Encoding", ""),
                limit=_ERROR_BODY if failed else self.options.max_body,
            )
        except SourceError as error:
            if not failed:  # of a refusal the status says enough
                raise type(error)(f"{answer.url}: {error}") from None
        except (Truncated, urllib3.exceptions.HTTPError, OSError) as error:
            if not failed:
                raise self._broken("the answer broke off", error, host, answer.status) from None

    def _prepare(self, request: Request, method: str, url: str, credentials: Credentials) -> requests.PreparedRequest:
        own = self.hosts.owns(url)
        headers: dict[str, str] = {**self._common, "Accept": "*/*"}
        cookies = self._session.cookies
        if own and credentials.cookies:
            cookies = cookies.copy()
            cookies.update(credentials.cookies)
        if own:
            headers |= {**self._headers, **request.headers, **credentials.headers}
            url = with_params(url, credentials.params)
        else:
            headers |= {name: value for name, value in request.headers.items() if name.lower().startswith("if-")}
        # Session.prepare_request would merge the session's settings, of which there are none, at twice the cost.
        prepared = requests.PreparedRequest()
        try:
            prepared.prepare_method(method)
            prepared.prepare_url(url, None)
            prepared.prepare_headers(headers)
            prepared.prepare_cookies(cookies)
            if method == "POST":
                prepared.prepare_body(data=request.form, files=None, json=request.json_body)
            return prepared
        except (requests.exceptions.RequestException, ValueError) as error:
            raise SourceError(f"{self.redactor.url(url)} can't be asked: {self._reason(error)}") from None

    def _check(self, url: str, what: str) -> Any:
        try:
            return self.hosts.check(url)
        except ForbiddenTarget as error:
            reason = self.redactor.text(str(error))
            raise ForbiddenTarget(f"{what} leads to {self.redactor.url(url)}: {reason}") from None

    def _again(self, answer: Answer, host: str) -> Exception:
        """Say what a status worth another try means: wait and try, or stop here."""
        message = f"answered {answer.status}"
        wait = retry_after(answer.headers)
        if answer.status == 429 or wait is not None:
            self._breaker.answered(host)  # it is alive, and says what it wants
        else:
            self._breaker.failed(host)
        if wait is None:
            return _Again(message, status=answer.status)
        if wait > self.options.http_retry.max_wait:
            until = datetime.now(UTC) + timedelta(seconds=wait)
            return RequestFailed(
                f"{answer.url} {message} and asks to wait until {until:%Y-%m-%d %H:%M:%S} UTC, longer than "
                f"`http_retry.max_wait` ({self.options.http_retry.max_wait:g} s): the next fetch goes on from here",
                status=answer.status,
                retry_at=until,
            )
        self.limiters.of(host).hold(wait)
        return _Again(message, status=answer.status, wait=wait)

    def _broken(self, what: str, error: BaseException, host: str, status: int | None = None) -> Exception:
        """Say what a connection that failed means."""
        self._breaker.failed(host)
        if any(isinstance(each, DeadlinePassed) for each in chain(error)):
            return _Late(self._reason(error), status=status)
        refused = any(isinstance(each, ConnectionRefusedError) for each in chain(error))
        hint = "is it running (see `base_url` in the card)? " if refused else ""
        return _Again(f"{what}: {hint}{self._reason(error)}", status=status)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, _Again) else 0.0
        jittered = wait_random_exponential(_FIRST_PAUSE, max=self.options.http_retry.max_wait)(state)
        return max(asked, jittered)

    def _spend(self, state: RetryCallState) -> None:
        """Take a retry out of the fetch's budget."""
        with self._lock:
            self._budget -= 1
            if self._budget >= 0:
                return
        error = state.outcome.exception() if state.outcome else None
        raise RequestFailed(
            f"the retry budget of this fetch ({self.options.http_retry.budget}) is spent: the source counts as down "
            f"(last: {error})",
            status=getattr(error, "status", None),
        )

    def _count(self, figures: StreamFetch, *, requests: int = 0, retries: int = 0) -> None:
        with self._lock:
            figures.requests += requests
            figures.retries += retries

    def _tls(self, error: Exception, host: str) -> Exception:
        reason = self._reason(error)
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or "hostname" in str(error).lower():
            return SourceError(f"{host}: its certificate isn't trusted ({reason}); `verify_tls: false` ignores that")
        self._breaker.failed(host)
        return _Again(f"no answer: {reason}")

    def _reason(self, error: BaseException) -> str:
        """Give an error's own words: the innermost that says anything, without secrets."""
        words = ""
        for each in chain(error):
            words = str(each) or words
        return self.redactor.text(words.rpartition("): ")[2])[:300]


@lru_cache(maxsize=8)
def user_agent(contact: str) -> str:
    """Say who asks, so that who is asked can complain."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("bindery")
    except PackageNotFoundError:
        number = "0"
    return f"bindery/{number} (+{contact})"
