"""Parents: the records of one stream, one after another, as another stream asks once for each.

They are read back from what the parent's fetch landed, so that a child goes on after an interruption without asking for
its parents again, and sees every parent once, whichever fetch landed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dagster_project.ingest.cards.rest import Parent, RestStream
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.document import Field, Records, brief, read_document, read_lines

if TYPE_CHECKING:
    from dagster_project.ingest.fetch.session import StreamBatch
    from dagster_project.ingest.landing.model import Batch


@dataclass(frozen=True, slots=True)
class ParentRecord:
    """One parent: what its child's request needs of it."""

    index: int
    """Among all parents of the child's batch, from 0."""
    value: str
    include: dict[str, Any]
    """Child field -> the parent's value."""


def batches_to_read(sealed: list[Batch]) -> list[int]:
    """Choose among the parent's batches, sealed since the child last looked: the newest that lists all, and later."""
    complete = [position for position, batch in enumerate(sealed) if batch.stats.get("complete")]
    return [batch.batch_id for batch in sealed[complete[-1] if complete else 0 :]]


def lists_all(sealed: list[Batch]) -> bool:
    """Tell whether these batches together hold every record of the parent."""
    return any(batch.stats.get("complete") for batch in sealed)


def parents_of(child: StreamBatch, card: Parent, parent: RestStream, batch_ids: list[int]) -> Iterator[ParentRecord]:
    """Give the parents in the order they were landed, each value once.

    Raises:
        SourceError: A parent's value can't be put into a URL.
    """
    field = Field(card.field)
    included = {Field(path): name for path, name in card.include.items()}
    seen: set[str] = set()
    without = 0
    for batch_id in batch_ids:
        for record in _records(child, parent, batch_id):
            value = field.of(record)
            if value is None or value == "":
                without += 1
                continue
            if isinstance(value, bool | list | dict):
                raise SourceError(
                    f"`parent.field: {card.field}` of {parent.name!r} leads to {brief(value)}: it should be a "
                    "text or a number"
                )
            text = str(value)
            if text in {".", ".."}:
                raise SourceError(f"`parent.field: {card.field}` of {parent.name!r} is {text!r}, which no URL can hold")
            if text in seen:
                continue
            seen.add(text)
            include = {name: _plain(path.of(record)) for path, name in included.items()}
            yield ParentRecord(len(seen) - 1, text, include)
    if without:
        child.warn(f"{without} records of {parent.name!r} have no `{card.field}`: nothing was asked for them")


def _records(child: StreamBatch, parent: RestStream, batch_id: int) -> Iterator[Any]:
    session = child.session
    records = Records(parent.records)
    for landed in session.objects(batch_id):
        assert landed.uri is not None
        with session.archive.open(landed.uri, landed.sha256) as body:
            if parent.format == "jsonl":
                yield from read_lines(body)
            else:
                yield from records.of(
                    read_document(body.read(), landed.origin, redactor=session.redactor), landed.origin
                )


def _plain(value: Any) -> Any:
    """Write a value for JSON; a decimal number as its text, so that no digit is lost."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
