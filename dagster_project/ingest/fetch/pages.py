"""What a crawl needs to know of URLs and pages: one spelling per URL, sitemaps, pages that aren't what they seem."""

from __future__ import annotations

import gzip
import html
import io
import re
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.parse.page import Page

_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Nothing in it can fail once it has begun: what is no sitemap mustn't take long to be found out.
_LOCATION = re.compile(r"<(?:\w{1,30}:)?loc>([^<>]{0,8192})(?:<!\[CDATA\[([^<>]{0,8192}))?")
_LONGEST = 8192
_INDEX = re.compile(r"<(?:\w+:)?sitemapindex[\s>]")
_MAX_SITEMAP = 50 * 1024 * 1024
_NOT_FOUND = re.compile(
    r"\b(404|page not found|not be found|does(n't| not) exist|no longer available)\b", re.IGNORECASE
)
_CAPTCHA = re.compile(
    r"g-recaptcha|h-captcha|hcaptcha\.com|cf-challenge|challenge-platform|cf-turnstile|captcha-delivery|"
    r"<title>\s*just a moment|are you (a )?(human|robot)|verify (that )?you are human|unusual traffic",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"/(log-?in|sign-?in|auth|sso)(/|\.|\?|$)", re.IGNORECASE)
_SMALL = 30_000  # characters: an interstitial is small, a page that merely embeds such a thing isn't


def canonical(url: str) -> str:
    """Spell a URL the one way: lower-case host, no default port, no fragment, escapes only where needed."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port and parts.port != _PORTS.get(parts.scheme.lower()):
        host = f"{host}:{parts.port}"
    login = parts.netloc.rpartition("@")[0]
    if login:
        host = f"{login}@{host}"
    path = _escaped(_without_dots(parts.path) or "/", "/:@!$&'()*+,;=")
    return urlunsplit((parts.scheme.lower(), host, path, _escaped(parts.query, "/:@!$&'()*+,;=?"), ""))


def _escaped(text: str, safe: str) -> str:
    def normal(match: re.Match[str]) -> str:
        character = chr(int(match.group(1), 16))
        return character if character in _UNRESERVED else f"%{match.group(1).upper()}"

    return quote(_ESCAPE.sub(normal, text), safe=safe + "%")


def _without_dots(path: str) -> str:
    if "/." not in path:
        return path
    out: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            if len(out) > 1:
                out.pop()
        elif part != ".":
            out.append(part)
    if parts[-1] in {".", ".."}:
        out.append("")
    return "/".join(out)


def sitemap_urls(body: bytes, url: str) -> tuple[list[str], bool]:
    """Read a sitemap, gzipped or not.

    Returns:
        The URLs in it, and whether they are further sitemaps.

    Raises:
        SourceError: It is too large or damaged.
    """
    if body.startswith(b"\x1f\x8b"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
                body = file.read(_MAX_SITEMAP + 1)
        except (OSError, EOFError) as error:
            raise SourceError(f"sitemap {url}: its gzip data are damaged ({error})") from None
    if len(body) > _MAX_SITEMAP:
        raise SourceError(f"sitemap {url}: larger than {_MAX_SITEMAP // 1024**2} MiB, more than sitemaps may be")
    text = body.decode("utf-8", "replace")
    # Read by pattern, not by an XML parser: sitemaps are simple and often broken, entities can be bombs.
    found = (cdata.removesuffix("]]").strip() or plain.strip() for plain, cdata in _LOCATION.findall(text))
    return [html.unescape(url) for url in found if 0 < len(url) < _LONGEST], _INDEX.search(text) is not None


def suspicion(page: Page, asked: str) -> str | None:
    """Say what a page that came with status 200 seems to be: ``soft_404``, ``login_wall``, ``captcha`` or itself."""
    title = page.title or ""
    if _LOGIN.search(urlsplit(page.url).path) and not _LOGIN.search(urlsplit(asked).path):
        return "login_wall"
    if len(page.text) < _SMALL and _CAPTCHA.search(page.text):
        return "captcha"
    heading = page.tree.css_first("h1")
    if _NOT_FOUND.search(title) or (heading is not None and _NOT_FOUND.search(heading.text(deep=True)[:200])):
        return "soft_404"
    if page.tree.css_first("input[type=password]") is not None and len(page.tree.css("a[href]")) < 15:
        return "login_wall"
    return None


def shown(url: str) -> str:
    """Write a URL for a person."""
    return unquote(url) if len(url) < 200 else url[:197] + "..."
