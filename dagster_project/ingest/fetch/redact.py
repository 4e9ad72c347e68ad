"""Keeping secrets out of messages, logs, origins and stored URLs.

A ``Redactor`` learns each secret's value at the moment it is resolved. It also hides what is secret by its place: user
and password in a URL, query parameters and headers with telling names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

MASK = "***"
_SHORTEST = 4  # characters: a shorter secret would blank out half of every message
_PARAMETERS = re.compile(
    r"(?:api_?key|(?:access_?|auth_?|refresh_?|id_?)?token|auth|authorization|sig|signature|client_?secret|secret"
    r"|password|passwd|pwd|session_?id|x_amz_(?:signature|credential|security_token))",
    re.IGNORECASE,
)
_HEADERS = re.compile(r".*(?:auth|cookie|token|secret|api-?key|signature|session).*", re.IGNORECASE)


class Redactor:
    """Hides the secrets that it knows."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._forms: list[tuple[str, str]] = []
        self._parameters: set[str] = set()

    def add(self, value: str, name: str = "secret") -> str:
        """Learn a secret's value; give it back for use."""
        if len(value) >= _SHORTEST and value not in self._names:
            self._names[value] = name
            forms = dict.fromkeys((value, quote(value, safe=""), quote_plus(value), quote(value)), value)
            # The longest first: one secret may contain another.
            self._forms = sorted([*self._forms, *forms.items()], key=lambda pair: -len(pair[0]))
        return value

    def add_parameter(self, name: str) -> None:
        """Learn the name of a query parameter that carries a secret."""
        self._parameters.add(name.lower())

    def text(self, text: str) -> str:
        """Replace every known secret in a text."""
        for form, _ in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

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
        return self._walk(value, [(form, f"\u27e6{self._names[secret]}\u27e7") for form, secret in self._forms])

    def reveal(self, value: Any) -> Any:
        """Put back the secrets that ``conceal`` replaced."""
        return self._walk(value, [(f"\u27e6{name}\u27e7", secret) for secret, name in self._names.items()])

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
