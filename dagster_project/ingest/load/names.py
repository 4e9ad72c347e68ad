"""Column names: what a source's field is called in Postgres, without two fields ever sharing a column by accident.

Pure functions; which names are already given is the caller's knowledge (``bindery.columns``).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection

MAX_BYTES = 63
"""Postgres' limit on identifiers; it cuts longer ones silently."""

LOAD_ID = "_load_id"
TID = "_bindery_tid"
"""Used while merging, for where a row lies."""
RESERVED = frozenset({LOAD_ID, TID, "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})
"""The engine's own columns and Postgres' system columns."""

_LOWER_UPPER = re.compile(r"([^\W\d_A-Z])([A-Z])|(\d)([A-Z](?=[^\W\d_A-Z]))")
_ACRONYM = re.compile(r"([A-Z]+)([A-Z][a-z])")


def column_name(source_name: str) -> str:
    """Make a field's name fit for a column: NFKC, snake case, Unicode kept, at most 63 bytes.

    ``userName`` and ``User Name`` become ``user_name``, ``Country/Region`` becomes ``country_region``, ``日本`` stays.
    Reserved names get a trailing ``_``; names too long are cut and end with a hash of the whole.
    """
    text = unicodedata.normalize("NFKC", source_name)
    text = _ACRONYM.sub(r"\1_\2", text)
    text = _LOWER_UPPER.sub(lambda m: f"{m[1] or m[3]}_{m[2] or m[4]}", text)
    text = unicodedata.normalize("NFKC", text.lower())
    words = "".join(character if _is_word(character) else " " for character in text).split()
    name = "_".join(words) or "column"
    if name[0].isdigit():
        name = f"_{name}"
    if name in RESERVED:
        name = f"{name}_"
    return shortened(name, source_name)


def _is_word(character: str) -> bool:
    # Combining marks belong to the letter before them: without them Hindi or Thai words would fall apart.
    return character == "_" or character.isalnum() or unicodedata.category(character).startswith("M")


def shortened(name: str, source_name: str) -> str:
    """Cut a name to 63 bytes, with a hash of the source's name in place of what was cut."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(source_name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_cut(name, MAX_BYTES - 9)}_{digest}"


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode("utf-8", "ignore")


def distinct_column_name(source_name: str, taken: Collection[str]) -> str:
    """Give the column name of a new field, with ``_2``, ``_3``, ... where another field has the name already."""
    name = column_name(source_name)
    if name not in taken:
        return name
    number = 2
    while True:
        suffix = f"_{number}"
        candidate = _cut(name, MAX_BYTES - len(suffix)) + suffix
        if candidate not in taken:
            return candidate
        number += 1


def quoted(*parts: str) -> str:
    """Quote an identifier for SQL, qualified where several parts are given.

    Raises:
        ValueError: A part holds a NUL character, which no identifier can.
    """
    for part in parts:
        if "\0" in part:
            raise ValueError(f"a name can't hold NUL: {part!r}")
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
