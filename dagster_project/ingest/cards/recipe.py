"""What a card may say of cleaning: what is done to rows after they are read and before their types are found."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from dagster_project.ingest.cards.base import CardModel

_FUNCTION = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


class Condition(CardModel):
    """Rows that are meant: all that is said here holds for them."""

    field: str
    """The field that is looked at, under its name after `rename`."""
    empty: bool | None = None
    """Whether it has no value (or only blanks), or has one."""
    one_of: list[str] = Field(default_factory=list)
    """It is one of these texts."""
    matches: str | None = None
    """A regular expression (RE2) is found in it."""
    below: float | None = None
    """It is a number below this."""
    above: float | None = None
    """It is a number above this."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (
            self.empty is None
            and not self.one_of
            and self.matches is None
            and self.below is None
            and self.above is None
        ):
            raise ValueError("which rows? Say `empty`, `one_of`, `matches`, `below` or `above`")
        return self


class Recipe(CardModel):
    """How rows are cleaned, in this order; what they are called and typed afterwards is for `columns`."""

    rename: dict[str, str] = Field(default_factory=dict)
    """Field of the file -> name under which everything else here, and `columns`, knows it."""
    keep: list[str] = Field(default_factory=list)
    """Only these fields; all of them otherwise."""
    trim: bool | list[str] = False
    """Take blanks off both ends of texts: of all fields, or of these."""
    lower: list[str] = Field(default_factory=list)
    """Make texts of these fields lower case."""
    null: list[str] = Field(default_factory=list)
    """Words that mean that there is no value, such as `n/a`, whatever their case."""
    dates: dict[str, str] = Field(default_factory=dict)
    """Field -> how its dates are written, as `strptime` says it: they become ISO 8601. Others stay as they are, so
    that a declared type refuses them."""
    fill: dict[str, str] = Field(default_factory=dict)
    """Field -> value where there is none."""
    drop_where: list[Condition] = Field(default_factory=list)
    """Rows that are left out, counted."""
    refuse_where: list[Condition] = Field(default_factory=list)
    """Rows that go to the quarantine."""
    dedupe: bool | list[str] = False
    """Of rows of one file that are the same, or the same in these fields, only the first."""
    function: str | None = None
    """``module:name`` of a function that gets a pandas DataFrame of texts (index: row numbers of the file) and gives
    one. Rows whose column ``_refuse`` has a text go to the quarantine with it as the reason."""

    @field_validator("lower", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("function")
    @classmethod
    def _function_is_named(cls, value: str | None) -> str | None:
        if value is not None and not _FUNCTION.match(value):
            raise ValueError(f"expected module:name, such as dagster_project.defs.uploads.clean:tidy, got {value!r}")
        return value
