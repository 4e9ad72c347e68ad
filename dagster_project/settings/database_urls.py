"""Postgres URLs taken apart and put together. What connects with them is elsewhere."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode

from pydantic import SecretStr


def with_parts(
    url: SecretStr, *, database: str, login: str | None = None, password: str | None = None, options: str | None = None
) -> SecretStr:
    """Give the URL with other parts; hosts and parameters stay. Several hosts and sockets are legal, so no urlsplit."""
    scheme, _, rest = url.get_secret_value().partition("://")
    rest, _, query = rest.partition("?")
    authority, _, _old = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    if login is not None:
        user, at = f"{quote(login, safe='')}:{quote(password or '', safe='')}", "@"
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    if login is not None:
        pairs = {key: value for key, value in pairs.items() if key not in {"user", "password", "passfile"}}
    if options is not None:
        pairs["options"] = f"{pairs['options']} {options}" if "options" in pairs else options
    pairs.pop("dbname", None)
    # libpq reads %20, not +, as a blank.
    text = f"{scheme}://{user}{at}{hosts}/{quote(unquote(database), safe='')}"
    return SecretStr(text + (f"?{urlencode(pairs, quote_via=quote)}" if pairs else ""))
