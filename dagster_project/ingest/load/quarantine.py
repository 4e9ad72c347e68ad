"""Rows that don't fit: kept in ``raw._quarantine`` with the reason, counted, and weighed against the card's bounds.

Nothing of a refused row is lost: its record as read, or its line where it couldn't be read as a row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.load.reading import CODE
from dagster_project.ingest.load.session import Session

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import Expect
    from dagster_project.ingest.chunk import Refused
    from dagster_project.ingest.load.blocks import Block, Origin

_RAW: Final = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.BOOLEAN, Kind.JSON})
_WORDS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""Numbers that JSON doesn't have."""
_PAGE: Final = 500
_SHOWN: Final = 200
"""Characters of a value that a message shows."""


@dataclass(slots=True)
class Reason:
    """Why a row is refused."""

    code: str
    """``type_mismatch``, ``null_key``, ``required``, ``contract_column``, ``refused_by_postgres``, or a parser's."""
    column: str | None
    message: str


class Quarantine:
    """Collects the refused rows of one stream's load and writes them in its transaction."""

    def __init__(self, session: Session, load_id: int, source: str, stream: str) -> None:
        self._session = session
        self._head = (load_id, source, stream)
        self._waiting: list[tuple[Any, ...]] = []
        self._waiting_bytes = 0
        self.count = 0
        self.codes: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        """Code -> the first row's message and place."""
        self.places: list[tuple[int | None, int | None]] = []
        """Landing id and ordinal of each refused row; kept only by replays."""
        self.keep_places = False

    @property
    def due(self) -> bool:
        """Whether enough rows wait to be written."""
        return len(self._waiting) >= _PAGE or self._waiting_bytes > 4 * 1024 * 1024

    def refuse_lines(self, refused: list[tuple[Origin, Refused]]) -> None:
        """Take rows that the parser could not make rows of."""
        for origin, row in refused:
            reason = Reason(row.code, None, row.message)
            line = row.line if row.line is None else row.line.replace("\0", "\ufffd")
            self._take(origin, row.ordinal, None, line, reason)

    def refuse_rows(self, block: Block, reasons: dict[int, Reason]) -> None:
        """Take rows of a block (row -> reason) with their records."""
        rows = sorted(reasons)
        for row, record in zip(rows, records(block, rows), strict=True):
            origin, ordinal = block.locate(row)
            self._take(origin, ordinal, record, None, reasons[row])

    def _take(self, origin: Origin, ordinal: int | None, record: str | None, line: str | None, reason: Reason) -> None:
        self.count += 1
        self.codes[reason.code] += 1
        if reason.code not in self.examples:
            shown = record if record is not None else line
            self.examples[reason.code] = (
                f"{reason.message} ({origin.name}, row {ordinal if ordinal is not None else '?'}: {shortened(shown)})"
            )
        if self.keep_places:
            self.places.append((origin.landing_id, ordinal))
        self._waiting.append(
            (*self._head, origin.landing_id, ordinal, record, line, reason.code, reason.column, reason.message)
        )
        self._waiting_bytes += len(record or "") + len(line or "")

    def write(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        statement = (
            "copy raw._quarantine (load_id, source, stream, landing_id, ordinal, record, line, code, column_name, "
            "message) from stdin"
        )
        with self._session.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in self._waiting:
                copy.write_row(row)
        self._waiting.clear()
        self._waiting_bytes = 0

    def check(self, expect: Expect, rows_read: int, name: str) -> None:
        """Hold the count against the card's bounds.

        Raises:
            DataRefusedError: Too many rows were refused; names the worst reasons and an example of each.
        """
        if not self.count:
            return
        # Objects that can't be read aren't rows, and must not keep the others' rows out.
        objects = self.codes[CODE]
        rate = (self.count - objects) / max(rows_read - objects, 1)
        bound = None
        if expect.max_quarantined is not None and self.count > expect.max_quarantined:
            bound = f"max_quarantined is {expect.max_quarantined:,}"
        elif expect.max_quarantined_rate is not None and rate > expect.max_quarantined_rate:
            bound = f"max_quarantined_rate is {expect.max_quarantined_rate:g}"
        if bound is None:
            return
        worst = "; ".join(
            f"{count:,} {code}, such as: {self.examples[code]}" for code, count in self.codes.most_common(3)
        )
        raise DataRefusedError(
            f"{name}: {self.count:,} of {rows_read:,} rows don't fit, and `expect.{bound}`: nothing was loaded. {worst}"
        )


def shortened(text: str | None) -> str:
    """Cut a text for a message."""
    if text is None:
        return "nothing"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def records(block: Block, rows: list[int]) -> list[str]:
    """Write rows of a block as JSON objects, numbers and nested values as they were."""
    indices = pa.array(rows, pa.int64())
    if not block.columns:
        return ["{}"] * len(rows)
    names = list(block.columns)
    columns: list[list[Any]] = []
    for column in block.columns.values():
        texts = column.values.take(indices).to_pylist()
        if column.kind in _RAW:
            columns.append(
                [None if text is None else text if text in _WORDS else msgspec.Raw(text.encode()) for text in texts]
            )
        else:
            columns.append(texts)
    encode = msgspec.json.encode
    return [encode(dict(zip(names, values, strict=True))).decode() for values in zip(*columns, strict=True)]
