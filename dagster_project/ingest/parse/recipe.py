"""Cleaning rows as a card's recipe says: column-wise, on the texts that parsers give, a chunk at a time.

What a value becomes in the end is for typing to find; rows that a recipe refuses go the way of all refused rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Chunk, Column, Kind, Refused
from dagster_project.ingest.errors import CardError, DataRefusedError
from dagster_project.ingest.parse.shape import row_numbers

if TYPE_CHECKING:
    from dagster_project.ingest.cards.recipe import Condition, Recipe

CODE: Final = "recipe"
"""The quarantine's code of rows that a recipe refuses."""
REFUSE: Final = "_refuse"
_TEXT: Final = frozenset({Kind.UNTYPED, Kind.STRING})
_LINE: Final = 64 * 1024


def apply_recipe(recipe: Recipe, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Clean the chunks of one object.

    Raises:
        CardError: The recipe's function can't be found.
        DataRefusedError: It failed, or gave what is no table of values.
    """
    function = _function(recipe.function) if recipe.function is not None else None
    seen: set[tuple[str | None, ...]] = set()
    for chunk in chunks:
        if chunk.rows:
            _clean(recipe, chunk)
            if recipe.drop_where:
                chunk.left_out += _without(chunk, _any(chunk, recipe.drop_where))
            for condition in recipe.refuse_where:
                _refuse(chunk, _meant(chunk, condition), f"the recipe refuses it: {_said(condition)}")
            if recipe.dedupe:
                fields = recipe.dedupe if isinstance(recipe.dedupe, list) else sorted(chunk.columns)
                chunk.left_out += _without(chunk, _repeated(chunk, fields, seen))
            if function is not None and chunk.rows:
                _call(function, recipe.function or "", chunk)
        yield chunk


def _clean(recipe: Recipe, chunk: Chunk) -> None:
    columns: dict[str, Column] = {}
    for name, column in chunk.columns.items():
        called = recipe.rename.get(name, name)
        if called in columns:
            raise CardError(f"`recipe.rename`: two fields of a file would be {called!r}")
        if not recipe.keep or called in recipe.keep:
            columns[called] = column
    for name, column in columns.items():
        kind = column.kind
        values = _clean_text(recipe, name, column.values) if kind in _TEXT else column.values
        if name in recipe.fill and values.null_count:
            values = pc.fill_null(values, recipe.fill[name])
            kind = kind if kind in {Kind.STRING, Kind.JSON} else Kind.UNTYPED
        columns[name] = Column(values, kind)
    for name, value in recipe.fill.items():
        if name not in columns and (not recipe.keep or name in recipe.keep):
            columns[name] = Column(pa.repeat(pa.scalar(value, pa.string()), chunk.rows), Kind.UNTYPED)
    chunk.columns = columns


def _clean_text(recipe: Recipe, name: str, values: pa.Array) -> pa.Array:
    if recipe.trim is True or (isinstance(recipe.trim, list) and name in recipe.trim):
        values = pc.utf8_trim_whitespace(values)
    if name in recipe.lower:
        values = pc.utf8_lower(values)
    if recipe.null:
        words = pa.array([word.lower() for word in recipe.null], pa.string())
        meant = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), words)
        values = pc.if_else(meant, pa.scalar(None, pa.string()), values)
    return _iso(values, recipe.dates[name]) if name in recipe.dates else values


def _iso(values: pa.Array, written: str) -> pa.Array:
    """Write dates as ISO 8601; what isn't written as it should be stays."""
    try:
        found = pc.strptime(pc.utf8_trim_whitespace(values), format=written, unit="s", error_is_null=True)
    except pa.ArrowInvalid as error:
        raise CardError(f"`recipe.dates`: {written!r} is no way to write a date ({error})") from None
    timed = any(f"%{letter}" in written for letter in "HIMSTRc")
    return pc.coalesce(pc.strftime(found, format="%Y-%m-%dT%H:%M:%S" if timed else "%Y-%m-%d"), values)


def _any(chunk: Chunk, conditions: list[Condition]) -> pa.Array:
    meant = pa.repeat(pa.scalar(False), chunk.rows)
    for condition in conditions:
        meant = pc.or_(meant, _meant(chunk, condition))
    return meant


def _meant(chunk: Chunk, condition: Condition) -> pa.Array:
    """Tell for each row whether a condition holds."""
    column = chunk.columns.get(condition.field)
    values = pa.nulls(chunk.rows, pa.string()) if column is None else column.values
    tests = []
    if condition.empty is not None:
        empty = pc.or_(values.is_null(), pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), False))
        tests.append(empty if condition.empty else pc.invert(empty))
    if condition.one_of:
        tests.append(pc.is_in(values, pa.array(condition.one_of, pa.string())))
    if condition.matches is not None:
        try:
            tests.append(pc.match_substring_regex(values, condition.matches))
        except pa.ArrowInvalid as error:
            raise CardError(f"`recipe`: {condition.matches!r} is no regular expression ({error})") from None
    if condition.below is not None or condition.above is not None:
        numbers = _numbers(values)
        if condition.below is not None:
            tests.append(pc.less(numbers, condition.below))
        if condition.above is not None:
            tests.append(pc.greater(numbers, condition.above))
    meant = tests[0]
    for test in tests[1:]:
        meant = pc.and_(meant, test)
    return pc.fill_null(meant, False)


_NUMBER: Final = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


def _numbers(values: pa.Array) -> pa.Array:
    good = pc.fill_null(pc.match_substring_regex(values, _NUMBER), False)
    texts = pc.if_else(good, pc.utf8_trim_whitespace(values), pa.scalar(None, pa.string()))
    return pc.cast(texts, pa.float64())


def _said(condition: Condition) -> str:
    said = condition.model_dump(exclude_defaults=True)
    field = said.pop("field")
    return f"{field} " + ", ".join(f"{name}: {value}" for name, value in said.items())


def _without(chunk: Chunk, out: pa.Array) -> int:
    """Take rows out of a chunk; tell how many."""
    count = pc.sum(out).as_py() or 0
    if count:
        kept = pc.invert(out)
        chunk.ordinals = row_numbers(chunk).filter(kept)
        chunk.columns = {name: Column(each.values.filter(kept), each.kind) for name, each in chunk.columns.items()}
        chunk.rows = len(chunk.ordinals)
    return count


def _refuse(chunk: Chunk, out: pa.Array, why: str) -> None:
    _refuse_rows(chunk, dict.fromkeys(pc.indices_nonzero(out).to_pylist(), why))


def _refuse_rows(chunk: Chunk, reasons: dict[int, str]) -> None:
    import msgspec

    if not reasons:
        return
    numbers = row_numbers(chunk)
    for row, why in reasons.items():
        record = {name: column.values[row].as_py() for name, column in chunk.columns.items()}
        line = msgspec.json.encode(record).decode()[:_LINE]
        chunk.refused.append(Refused(numbers[row].as_py(), CODE, why, line))
    mask = [row in reasons for row in range(chunk.rows)]
    _without(chunk, pa.array(mask))


def _repeated(chunk: Chunk, fields: list[str], seen: set[tuple[str | None, ...]]) -> pa.Array:
    texts = [
        chunk.columns[name].values.to_pylist() if name in chunk.columns else [None] * chunk.rows for name in fields
    ]
    mask = []
    for row in zip(*texts, strict=True):
        mask.append(row in seen)
        seen.add(row)
    return pa.array(mask, pa.bool_())


# -- functions


def _function(named: str) -> Callable[[Any], Any]:
    module, _, name = named.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CardError(f"`recipe.function`: {named} can't be found ({error})") from None
    if not callable(found):
        raise CardError(f"`recipe.function`: {named} is no function")
    function: Callable[[Any], Any] = found
    return function


def _call(function: Callable[[Any], Any], named: str, chunk: Chunk) -> None:
    """Hand a chunk to somebody's function, as a DataFrame, and take what it gives."""
    pandas: Any = import_module("pandas")  # only who has such a function pays for it
    numbers = row_numbers(chunk).to_pylist()
    texts = {name: column.values.to_pylist() for name, column in chunk.columns.items()}
    frame = pandas.DataFrame(texts, index=pandas.Index(numbers, name="row"), dtype=object)
    try:
        given = function(frame)
    except Exception as error:
        raise DataRefusedError(f"the recipe's function {named} failed: {type(error).__name__}: {error}") from error
    if not isinstance(given, pandas.DataFrame):
        raise DataRefusedError(f"the recipe's function {named} gave a {type(given).__name__}, not a DataFrame")
    if not all(isinstance(number, int) or hasattr(number, "__index__") for number in given.index):
        raise DataRefusedError(f"the recipe's function {named} lost the row numbers in the frame's index")
    before = {name: column.kind for name, column in chunk.columns.items()}
    reasons = given.pop(REFUSE) if REFUSE in given.columns else None
    rows = chunk.rows
    chunk.columns = {str(name): _column(given[name], before.get(name), named) for name in given.columns}
    chunk.ordinals = pa.array([int(number) for number in given.index], pa.int64())
    chunk.rows = len(given)
    chunk.left_out += max(rows - chunk.rows, 0)
    if reasons is not None:
        told = {at: str(why) for at, why in enumerate(reasons.tolist()) if isinstance(why, str) and why}
        _refuse_rows(chunk, told)


def _column(series: Any, before: Kind | None, named: str) -> Column:
    try:
        values = pa.array(series, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataRefusedError(f"the recipe's function {named}: column {series.name!r}: {error}") from None
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Column(values.cast(pa.string()), before if before in {Kind.STRING, Kind.JSON} else Kind.UNTYPED)
    if pa.types.is_null(kind):
        return Column(values.cast(pa.string()), Kind.NULL)
    if pa.types.is_boolean(kind):
        return Column(values.cast(pa.string()), Kind.BOOLEAN)
    if pa.types.is_integer(kind):
        return Column(values.cast(pa.string()), Kind.INTEGER)
    if pa.types.is_decimal(kind):
        return Column(values.cast(pa.string()), Kind.DECIMAL)
    if pa.types.is_floating(kind):
        return Column(pa.array([None if v is None else repr(v) for v in values.to_pylist()], pa.string()), Kind.DOUBLE)
    if pa.types.is_date(kind):
        return Column(pc.strftime(values, format="%Y-%m-%d"), Kind.DATE)
    if pa.types.is_timestamp(kind):
        texts = [
            None if each is None else each.isoformat() for each in values.cast(pa.timestamp("us", kind.tz)).to_pylist()
        ]
        return Column(pa.array(texts, pa.string()), Kind.TIMESTAMP if kind.tz is None else Kind.TIMESTAMPTZ)
    raise DataRefusedError(f"the recipe's function {named}: column {series.name!r} is {kind}: give texts or numbers")
