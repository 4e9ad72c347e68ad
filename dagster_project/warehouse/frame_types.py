"""What reading and writing frames share: the error, names, and which Postgres types take which."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dagster_project.warehouse.connection import WarehouseError

PLAIN_TABLE = re.compile(r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$")


class FrameError(WarehouseError):
    """A DataFrame and a table don't go together; the message names the column and the reason."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class TableName:
    """A table with its schema."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read ``schema.table``.

        Raises:
            FrameError: It isn't one.
        """
        if not PLAIN_TABLE.match(text):
            raise FrameError(f"{text!r} is no table name: write it as schema.table, letters, digits and _")
        return cls(*text.split("."))

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The quoted name."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
TEXTS = {"text", "character varying", "character", "citext", "name"}
ACCEPTS: dict[str, set[str]] = {
    "smallint": set(NUMBERS),
    "integer": set(NUMBERS),
    "bigint": set(NUMBERS),
    "numeric": {"numeric"},
    "real": {"real", "double precision"},
    "double precision": {"real", "double precision"},
    "text": TEXTS,
    "jsonb": {"jsonb", "json"},
    "boolean": {"boolean"},
    "date": {"date"},
    "time": {"time without time zone"},
    "timestamp": {"timestamp without time zone"},
    "timestamptz": {"timestamp with time zone"},
    "interval": {"interval"},
    "uuid": {"uuid"},
    "bytea": {"bytea"},
}
"""Type of a frame's column -> types of a table's column that take it. What doesn't fit in size, Postgres refuses."""


def fits(wanted: str, existing: str) -> bool:
    """Tell whether a frame's column goes into a table's column without changing what it means."""
    base = re.sub(r"\(.*?\)", "", existing)
    plain = re.sub(r"\(.*?\)", "", wanted)
    if wanted == "null":
        return True
    if plain.endswith("[]"):
        if base.startswith(("vector", "halfvec")):
            return plain[:-2] in NUMBERS
        return (base.endswith("[]") and fits(plain[:-2], base[:-2])) or base == "jsonb"
    if plain == "vector":
        return base in {"vector", "halfvec", "real[]", "double precision[]"}
    # A jsonb column takes any value: what reading it gave is written back as JSON.
    return base in ACCEPTS[plain] or (base == "jsonb" and plain in {"text", "boolean", "numeric", *NUMBERS})
