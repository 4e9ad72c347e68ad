"""Reading landed objects one after another, and setting aside those that can't be read.

One damaged file must not keep the others out: it becomes one row of the quarantine. What hits every object is another
matter, for then the card may be wrong, and a corrected card should find the batch still waiting. Parsing itself is
``parse``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from dagster_project.ingest.chunk import Chunk, Refused
from dagster_project.ingest.errors import DamagedObjectError, DataRefusedError

if TYPE_CHECKING:
    from dagster_project.ingest.landing.model import LandedObject

CODE: Final = "unreadable_object"
"""The quarantine's code of an object that can't be read."""
HELD: Final = 4 * 1024 * 1024
"""Text of an object that is kept back until its end is reached, so that a damaged object's rows are never sent."""


@dataclass(slots=True)
class Unreadable:
    """What the tries of one load found out about its objects."""

    found: dict[int | None, DataRefusedError] = field(default_factory=dict)
    """Landing id -> why it can't be read."""

    @property
    def careful(self) -> bool:
        """Whether large objects are read to their end before any of their rows is sent."""
        return bool(self.found)


class TurnedOutUnreadableError(Exception):
    """Rows of an object were sent before its damage showed: the load begins anew, without it."""

    def __init__(self, landing_id: int | None, why: DataRefusedError) -> None:
        super().__init__(str(why))
        self.landing_id = landing_id
        self.why = why


class ObjectReader:
    """Reads the objects of one stream's load."""

    def __init__(self, known: Unreadable, *, all_or_nothing: bool = False) -> None:
        """Begin.

        Args:
            known: What earlier tries of the load found out.
            all_or_nothing: Whether the objects only mean something together: a table that is replaced.
        """
        self._known = known
        self._all_or_nothing = all_or_nothing
        self._readable = False
        self._doubt: DataRefusedError | None = None
        self.set_aside: dict[int | None, str] = {}
        """Landing id -> why."""

    def chunks(self, landed: LandedObject, read: Callable[[], Iterator[Chunk]]) -> Iterator[Chunk]:
        """Give an object's chunks, or the one that stands for an object that can't be read.

        Raises:
            TurnedOutUnreadableError: Its damage showed too late.
            DataRefusedError: It can't be read, and the others mean nothing without it.
        """
        error = self._known.found.get(landed.landing_id)
        if error is None and self._known.careful:
            error = _failure(read)
        if error is not None:
            yield self._set_aside(landed, error)
            return
        held: list[Chunk] = []
        size = rows = 0
        sent = False
        try:
            for chunk in read():
                rows += chunk.rows + len(chunk.refused)
                if sent:
                    yield chunk
                    continue
                held.append(chunk)
                size += chunk.text_bytes
                if size > HELD:
                    yield from held
                    held.clear()
                    sent = True
        except DataRefusedError as refusal:
            # Some of its rows were read, so the card suits it.
            why = refusal if not rows else DamagedObjectError(str(refusal))
            if sent:
                raise TurnedOutUnreadableError(landed.landing_id, why) from refusal
            yield self._set_aside(landed, why)
            return
        yield from held
        self._readable = self._readable or rows > 0

    def _set_aside(self, landed: LandedObject, why: DataRefusedError) -> Chunk:
        if self._all_or_nothing:
            raise DataRefusedError(
                f"{why}. The table is replaced by the files of a fetch together, so nothing was replaced; "
                "the next fetch that can be read replaces it"
            )
        if not isinstance(why, DamagedObjectError) and self._doubt is None:
            self._doubt = why
        self.set_aside[landed.landing_id] = str(why)
        place = {"origin": landed.origin, "uri": landed.uri, "size": landed.size}
        line = msgspec.json.encode(place).decode(errors="replace")
        return Chunk({}, 0, 1, refused=[Refused(None, CODE, str(why), line)])

    def finish(self) -> None:
        """Hold against the card what no object could be read for.

        Raises:
            DataRefusedError: Not one could be, and not for damage alone: the card may be wrong.
        """
        if self._doubt is not None and not self._readable:
            raise self._doubt


def _failure(read: Callable[[], Iterator[Chunk]]) -> DataRefusedError | None:
    """Read an object to its end for nothing but to see whether that can be done."""
    rows = 0
    try:
        for chunk in read():
            rows += chunk.rows + len(chunk.refused)
    except DataRefusedError as error:
        return error if not rows else DamagedObjectError(str(error))
    return None
