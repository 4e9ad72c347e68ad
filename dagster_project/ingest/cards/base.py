"""What every card shares, whatever it fetches from: streams, keys, write modes, contracts, bounds, schedule, compute.

Fetching (REST, web, files) is in the sibling modules; nothing here reads a file or the environment.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dagster_project.ingest.cards.cron import cron_fields
from dagster_project.ingest.durations import parse_duration
from dagster_project.ingest.sizes import LEAST_MEMORY, SIZE, parse_size

NAME = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
MAX_TABLE_NAME = 63  # bytes: Postgres' limit on identifiers


class CardModel(BaseModel):
    """A part of a card: unknown fields are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each field by the text below it."""
        from dagster_project.ingest.cards.described import field_descriptions

        found = handler(core_schema)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for name, text in field_descriptions(cls).items():
            properties[cls.model_fields[name].alias or name].setdefault("description", text)
        return found


class SettingRef(CardModel):
    """A value that the platform's settings hold, resolved inside the step that uses it."""

    setting: str


class SecretRef(CardModel):
    """A secret by name, resolved inside the step that uses it and never written anywhere."""

    secret: str


Text = str | SettingRef
"""A text, or a reference to a setting."""
Number = int | SettingRef
"""A whole number, or a reference to a setting."""
SecretText = SecretRef | SettingRef | str
"""A secret: by reference; a literal text is allowed for what isn't secret, such as a user name."""

Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, written as a number or as ``500ms``, ``30s``, ``15m``, ``2h``, ``90d``, ``4w``."""

Seconds = Duration | SettingRef
"""A duration, or a reference to a setting that holds one."""
Positive = Annotated[float, Field(gt=0)] | SettingRef
"""A number above zero, or a reference to a setting."""

DataType = Literal[
    "boolean", "bigint", "numeric", "double precision", "timestamptz", "timestamp", "date", "text", "jsonb"
]
Write = Literal["append", "merge", "replace"]


class Column(CardModel):
    """What the card states about one column; a stated type is a promise, so rows that break it are quarantined."""

    name: str | None = None
    """The column's name in the table, if not the source's own name made fit."""
    type: DataType | None = None
    required: bool = False
    """Quarantine rows without a value."""
    null: list[str] = Field(default_factory=list)
    """Further words that mean NULL here, besides the card's ``null`` list."""
    format: str | None = None
    """How a date or timestamp is written, as ``strptime`` says it, where it isn't ISO 8601."""
    timezone: str | None = None
    """The zone of timestamps that don't say theirs; without it they stay ``timestamp`` without zone."""
    decimal: Literal[".", ","] = "."
    true: list[str] = Field(default_factory=lambda: ["true"])
    false: list[str] = Field(default_factory=lambda: ["false"])
    description: str | None = None
    pii: bool = False


class Cursor(CardModel):
    """How a stream goes on where the last load ended."""

    field: str
    """The record's field (JMESPath) whose largest value is the cursor."""
    param: str | None = None
    """The request parameter that carries it; without one, records at or below the cursor are dropped here."""
    initial: str | int | None = None
    lookback: Duration = 0.0
    """How far behind the cursor the next fetch starts, in seconds, for timestamps and dates."""


class Contract(CardModel):
    """What may change without anybody saying so."""

    columns: Literal["evolve", "freeze", "quarantine", "drop"] = "evolve"
    """A column that the table doesn't have: add it, fail the load, quarantine its rows, or leave it out."""
    types: Literal["evolve", "freeze", "quarantine"] = "evolve"
    """A value that doesn't fit an inferred column: widen it without loss, fail the load, or quarantine the row."""


class Expect(CardModel):
    """Bounds of a healthy load, checked before it commits."""

    min_rows: int | None = None
    """Fewest rows that the table may have after the load."""
    max_rows: int | None = None
    max_null_rate: dict[str, float] = Field(default_factory=dict)
    """Column -> largest share of NULL among the rows of the load."""
    max_quarantined: int | None = None
    """Most refused rows of one load."""
    max_quarantined_rate: float | None = 0.5
    """Largest share of refused rows of one load: a broken file must not empty a table."""


class Schedule(CardModel):
    """When the source is fetched and loaded."""

    cron: Text
    """A cron expression, or ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``."""
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _cron_is_one(cls, value: Text) -> Text:
        if isinstance(value, str):
            cron_fields(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone {value!r}: expected a name such as UTC or Europe/Berlin") from None
        return value


ComputeClass = Literal["small", "medium", "large", "gpu"]


class StepCompute(CardModel):
    """What one step gets: the name of a compute class, or a mapping that starts from a class and says what differs."""

    # Written as it is read: a card goes from process to process as JSON.
    model_config = ConfigDict(serialize_by_alias=True)

    class_: ComputeClass = Field(default="small", alias="class")
    """The class whose numbers hold where nothing else is said."""
    cpu: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Cores, or parts of one; more than the machine has are cut to what it has."""
    memory: Annotated[int, BeforeValidator(parse_size)] | None = None
    """Bytes, or a text such as ``512MiB`` or ``3GiB``; at least 256 MiB. A step that needs more is ended."""
    gpu: int | None = Field(default=None, ge=0)
    """Whole devices."""
    image: str | None = Field(default=None, min_length=1, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$")
    """Image of the step's container: ``dbt``, or a full name. It is built on Dagster's image and is another tag of it,
    because the engine's filter lets no other name through."""
    on_oom: Literal["grow", "fail"] | None = None
    """After the step ran out of memory: try again with the next larger class, or fail. Without it, fail."""

    @model_validator(mode="before")
    @classmethod
    def _class_by_its_name(cls, value: Any) -> Any:
        return {"class": value} if isinstance(value, str) else value

    @field_validator("memory")
    @classmethod
    def _memory_is_enough(cls, value: int | None) -> int | None:
        if value is not None and value < LEAST_MEMORY:
            raise ValueError(f"a step needs at least {LEAST_MEMORY // 2**20}MiB, or it is ended while it imports")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe both ways to write it, for editors."""
        mapping = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(core_schema, handler))
        mapping["properties"]["memory"] = {
            **mapping["properties"]["memory"],
            "anyOf": [{"type": "integer", "minimum": LEAST_MEMORY}, {"type": "string", "pattern": SIZE.pattern}],
        }
        named = mapping["properties"]["class"]
        return {"anyOf": [{key: named[key] for key in ("enum", "type")}, mapping]}

    @property
    def tag(self) -> str:
        """Write it as the value of an op's tag: the class by itself, or a JSON object."""
        said = self.model_dump(by_alias=True, exclude_none=True)
        return str(said["class"]) if len(said) == 1 else json.dumps(said, sort_keys=True)


class Compute(CardModel):
    """How much of a machine the two steps of a source get."""

    fetch: StepCompute = StepCompute()
    load: StepCompute = StepCompute()


class Archive(CardModel):
    """How long raw bytes stay in landing."""

    keep: Duration | None = None
    """How long the bytes of a loaded batch are kept after its fetch; then they are removed, unless a younger batch has
    the same ones, and can't be replayed any more. Without it they stay for good."""


class Retry(CardModel):
    """How a step that failed in passing is tried again."""

    attempts: int = Field(default=2, ge=0, le=20)
    delay: Duration = 5.0


class StreamCard(CardModel):
    """One kind of record: one raw table, one asset."""

    name: str
    description: str | None = None
    """What one row is."""
    primary_key: list[str] = Field(default_factory=list)
    """Field names (of the source) that identify a row."""
    write: Write = "append"
    missing: Literal["keep", "delete"] = "keep"
    """What ``merge`` does with rows whose key a *complete* fetch no longer gave: keep them, or delete them. A fetch is
    complete when it read all that the source has (no cursor) and nothing failed but pages that are gone (404, 410)."""
    newest_by: list[str] = Field(default_factory=list)
    """Tie-break of ``merge``: of rows with one key the one with the largest values here wins, then the last read."""
    columns: dict[str, Column] = Field(default_factory=dict)
    """Source field -> what the card states about it. Fields not named here are taken as they come. Of two headers with
    one name the second is the field ``name_2``; two fields whose names make one column are ``name`` and ``name_2``."""
    ignore: list[str] = Field(default_factory=list)
    """Source fields that are left out."""
    renames: dict[str, str] = Field(default_factory=dict)
    """Former source field -> today's: both feed one column."""
    null: list[str] = Field(default_factory=list)
    """Words that mean NULL in every column."""
    nul_bytes: Literal["replace", "quarantine"] = "replace"
    """NUL characters and lone surrogates, which Postgres can't keep: replace by U+FFFD (counted), or refuse the row."""
    cursor: Cursor | None = None
    contract: Contract = Contract()
    expect: Expect = Expect()

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str) -> str:
        return plain_name(value, "a stream's name")

    @field_validator("primary_key", "newest_by", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _merge_has_a_key(self) -> Self:
        if self.write == "merge" and not self.primary_key:
            raise ValueError(f"stream {self.name!r}: `write: merge` needs `primary_key`")
        if self.missing == "delete" and (self.write != "merge" or self.cursor is not None):
            raise ValueError(f"stream {self.name!r}: `missing: delete` needs `write: merge` and no `cursor`")
        return self


class SourceCard(CardModel):
    """Where data come from: the part of a card that doesn't depend on how they are fetched."""

    card_version: Literal[1] = 1
    source: str
    """The source's name: folder, group, table prefix, dbt staging folder."""
    description: str | None = None
    publisher: str | None = None
    """Who publishes the data."""
    licence: str | None = None
    """Under which terms."""
    homepage: str | None = None
    owners: list[str] = Field(default_factory=list)
    """People or teams who answer for it: e-mail addresses or ``team:name``."""
    schedule: Schedule | None = None
    compute: Compute = Compute()
    retry: Retry = Retry()
    archive: Archive = Archive()
    tags: dict[str, str] = Field(default_factory=dict)

    @field_validator("source")
    @classmethod
    def _source_is_plain(cls, value: str) -> str:
        return plain_name(value, "a source's name")

    @model_validator(mode="after")
    def _streams_are_distinct(self) -> Self:
        seen: set[str] = set()
        for stream in self.all_streams:
            if stream.name in seen:
                raise ValueError(f"stream {stream.name!r} is there twice")
            seen.add(stream.name)
            table = self.table(stream.name)
            if len(table.encode()) > MAX_TABLE_NAME:
                raise ValueError(
                    f"table name {table!r} is longer than {MAX_TABLE_NAME} bytes: shorten source or stream"
                )
        return self

    @property
    def all_streams(self) -> tuple[StreamCard, ...]:
        """The card's streams, whatever their kind."""
        return tuple(getattr(self, "streams", ()))

    def stream(self, name: str) -> StreamCard:
        """Give the stream of this name.

        Raises:
            KeyError: No such stream; the message lists those there are.
        """
        for stream in self.all_streams:
            if stream.name == name:
                return stream
        raise KeyError(f"source {self.source!r} has no stream {name!r}; it has {[s.name for s in self.all_streams]}")

    def table(self, stream: str) -> str:
        """Name the raw table (without schema), which is also the last part of the asset key and dbt's source table."""
        return f"{self.source}__{stream}"


def plain_name(value: str, what: str) -> str:
    """Refuse a name that can't be a folder, a table and an asset key at once."""
    if not NAME.match(value):
        raise ValueError(
            f"{what} is lower-case letters, digits and _, starting with a letter, at most 40: got {value!r}"
        )
    if "__" in value:
        raise ValueError(f"{what} may not contain '__', which separates source and stream: got {value!r}")
    return value
