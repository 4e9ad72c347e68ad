"""Why a column is text: the value that no other type takes, and where it stands.

One odd value makes a column of numbers a column of text, which nobody notices until a query fails. Deciding types is
``types``' and ``stream``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.load.quarantine import shortened
from dagster_project.ingest.load.types import BY_SHAPE, fits

if TYPE_CHECKING:
    from dagster_project.ingest.load.blocks import Block

_SAMPLE: Final = 50
_MOST: Final = 0.2
"""Share of odd values from which a column is rather one of texts."""


def nearly(values: pa.Array, kind: Kind) -> tuple[str, int] | None:
    """Give the type that a column of texts would have but for a few values, and the row of the first of these."""
    if kind is not Kind.UNTYPED or values.null_count == len(values):
        return None
    sample = values.drop_null().slice(0, _SAMPLE)
    if sample.null_count == len(sample) or len(sample) < 2:
        return None
    best, most = "", 0
    for data_type in BY_SHAPE:
        mask = fits(sample, data_type)
        count = len(sample) if mask is None else pc.sum(pc.and_not(mask, pc.equal(sample, ""))).as_py() or 0
        if count > most:
            best, most = data_type, count
    if 2 * most < len(sample):
        return None
    mask = fits(values, best)
    if mask is None:
        return None
    odd = pc.indices_nonzero(pc.invert(mask))
    if len(odd) > _MOST * (len(values) - values.null_count):
        return None
    return best, int(odd[0].as_py())


def told(block: Block, row: int, column: str, value: str | None, before: str) -> str:
    """Say why a column is text."""
    origin, ordinal = block.locate(row)
    return (
        f"{column} is text, not {before}, because of {shortened(value)!r} ({origin.name}, row {ordinal}). To refuse "
        "such rows instead, state the column's type in the card"
    )
