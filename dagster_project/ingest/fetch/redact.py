"""Keeping secrets out of messages, logs, origins and stored URLs.

A ``Redactor`` learns each secret's value at the moment it is resolved. It also hides what is secret by its place: user
and password in a URL, query parameters and headers with telling names.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

MASK = "***"
_SHORTEST = 4  # characters: a shorter secret would blank out half of every message
_START = 200  # characters of an answer that a message shows
_PARAMETERS = re.compile(
    r"(?:api_?key|(?:access_?|auth_?|refresh_?|id_?)?token|auth|authorization|sig|signature|client_?secret|secret"
    r"|password|passwd|pwd|session_?id|x_amz_(?:signature|credential|security_token))",
    re.IGNORECASE,
)
_HEADERS = re.compile(r".*(?:auth|cookie|token|secret|api-?key|signature|session).*", re.IGNORECASE)


class Redactor:
    """Hides the secrets that it knows."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        """A mark for each secret in each of its forms, by which it is concealed."""
        self._forms: list[str] = []
        """The longest first: one secret may contain another."""
        self._parameters: set[str] = set()

    def add(self, value: str, name: str = "secret") -> str:
        """Learn a secret's value; give it back for use."""
        if len(value) >= _SHORTEST and value not in self._secrets:
            for number, form in enumerate(_forms(value)):
                self._secrets.setdefault(form, f"{name}#{number}" if number else name)
            self._forms = sorted(self._secrets, key=lambda form: -len(form))
        return value

    def add_parameter(self, name: str) -> None:
        """Learn the name of a query parameter that carries a secret."""
        self._parameters.add(name.lower())

    def text(self, text: str) -> str:
        """Replace every known secret in a text."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def start(
        self,
        data: bytes,
        size: int = _START,
        decode: Callable[[bytes], str] = lambda data: data.decode("utf-8", "replace"),
    ) -> str:
        """Give the first characters of an answer, for messages: first without secrets, then cut.

        The beginning of a secret is no less one: where the answer itself, or what is looked at of it, ends within a
        secret, the part that is there is left out.
        """
        longest = len(self._forms[0]) if self._forms else 0
        first = data[: (size + 2 * longest) * 4]
        text = self.text(decode(first)).rstrip("\ufffd")
        if len(first) < len(data):
            text = text[: max(0, len(text) - longest)]
        for form in self._forms:
            kept = next((n for n in range(min(len(form), len(text)), _SHORTEST - 1, -1) if text.endswith(form[:n])), 0)
            if kept:
                text = text[:-kept] + MASK
        return text[:size].strip()

    def url(self, url: str) -> str:
        """Give a URL without user, password and secret parameters."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return self.text(url)
        netloc = parts.netloc.rpartition("@")[2]
        query = "&".join(self._pair(pair) for pair in parts.query.split("&")) if parts.query else ""
        return self.text(urlunsplit(parts._replace(netloc=netloc, query=query)))

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Give headers without the values of those that carry secrets."""
        return {name: MASK if _HEADERS.fullmatch(name) else self.text(value) for name, value in headers.items()}

    def conceal(self, value: Any) -> Any:
        """Replace secrets in a JSON-like value by their names, for ``reveal`` to put back in another process."""
        return self._walk(value, [(form, f"\u27e6{self._secrets[form]}\u27e7") for form in self._forms])

    def reveal(self, value: Any) -> Any:
        """Put back the secrets that ``conceal`` replaced, each in the form that it had."""
        return self._walk(value, [(f"\u27e6{mark}\u27e7", form) for form, mark in self._secrets.items()])

    def _pair(self, pair: str) -> str:
        name, equals, _ = pair.partition("=")
        if equals and (name.lower() in self._parameters or _PARAMETERS.fullmatch(name.replace("-", "_"))):
            return f"{name}={MASK}"
        return pair

    def _walk(self, value: Any, pairs: list[tuple[str, str]]) -> Any:
        if not pairs:
            return value
        if isinstance(value, str):
            for old, new in pairs:
                value = value.replace(old, new)
            return value
        if isinstance(value, dict):
            return {self._walk(key, pairs): self._walk(item, pairs) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item, pairs) for item in value]
        return value


def _forms(value: str) -> list[str]:
    """Give the ways in which a server or a library may write a value back, the value itself first."""
    quoted = [quote(value, safe=""), quote_plus(value), quote(value)]
    plain, escaped = json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]
    # Headers go out as Latin-1 where that is enough, and what comes back is read as UTF-8.
    misread = value.encode("latin-1", "replace").decode("utf-8", "replace")
    forms = [
        value,
        *quoted,
        *(re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in quoted),
        *(form.replace("/", slash) for form in (plain, escaped) for slash in ("/", "\\/")),
        repr(value)[1:-1],
        html.escape(value),
        html.escape(value, quote=False),
        misread,
    ]
    return [form for form in dict.fromkeys(forms) if len(form) >= _SHORTEST]
