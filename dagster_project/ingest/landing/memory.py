"""A landing log that lives in memory: previews fetch through it and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster_project.ingest.landing.model import Batch, LandedObject

if TYPE_CHECKING:
    from dagster_project.ingest.fetch.uploads import Upload


class MemoryLog:
    """The part of the landing log that fetching needs, without a database."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._objects: dict[int, dict[str, LandedObject]] = {}
        self._announced: list[LandedObject] = []

    def open_batch(self, source: str, stream: str, partition: str, fingerprint: str, full_refresh: bool) -> Batch:
        """Open a batch that starts at nothing."""
        batch = Batch(len(self._batches) + 1, source, stream, partition, "open", fingerprint, full_refresh=full_refresh)
        self._batches.append(batch)
        self._objects[batch.batch_id] = {}
        return batch

    def open_one(self, source: str, stream: str, partition: str) -> Batch | None:
        """Give the open batch."""
        return next((b for b in self._of(source, stream, partition) if b.status == "open"), None)

    def newest_sealed(self, source: str, stream: str, partition: str) -> Batch | None:
        """Give the batch that was sealed last."""
        return next((b for b in reversed(self._of(source, stream, partition)) if b.status == "sealed"), None)

    def sealed_since(self, source: str, stream: str, partition: str, batch_id: int) -> list[Batch]:
        """Give the batches sealed after this one, in order."""
        return [b for b in self._of(source, stream, partition) if b.status == "sealed" and b.batch_id > batch_id]

    def sealed_untaken(self, source: str, stream: str, partition: str) -> list[Batch]:
        """Give nothing: nothing of a preview is ever loaded."""
        return []

    def give_up(self, source: str, batches: list[Batch], why: str) -> set[int]:
        """Give up nothing: nothing waits."""
        return set()

    def add(self, batch: Batch, landed: LandedObject, resume: dict[str, Any] | None, cursor: Any) -> int:
        """Keep one landed object."""
        landed.position = batch.position if landed.position is None else landed.position
        landed.batch_id, landed.landing_id = batch.batch_id, 1000 * batch.batch_id + batch.position
        batch.position = landed.position + 1
        self._objects[batch.batch_id][landed.fingerprint] = landed
        self.advance(batch, resume, cursor)
        return landed.landing_id

    def advance(self, batch: Batch, resume: dict[str, Any] | None, cursor: Any) -> None:
        """Keep how to go on."""
        batch.resume, batch.cursor_proposed = resume, cursor

    def seal(self, batch: Batch, cursor: Any, stats: dict[str, Any]) -> None:
        """Declare the batch whole."""
        batch.status, batch.cursor_proposed, batch.stats = "sealed", cursor, stats

    def fail(self, batch: Batch, error: str, stats: dict[str, Any] | None = None) -> None:
        """Keep why the batch stopped."""
        batch.stats, batch.error = stats or {}, error

    def abandon(self, batch: Batch, why: str) -> None:
        """Give a batch up."""
        batch.status, batch.error = "abandoned", why

    def seal_shares(self, source: str, stream: str) -> None:
        """Do nothing: a preview fetches no shares."""

    def objects(self, batch_id: int) -> Iterator[LandedObject]:
        """Give the objects of a batch in order."""
        yield from list(self._objects[batch_id].values())

    def last_seen(self, source: str, stream: str, origins: list[str] | None = None) -> dict[str, LandedObject]:
        """Give nothing: a preview asks for everything anew."""
        return {}

    def announced(self, source: str, stream: str | None = None) -> list[LandedObject]:
        """Give what a list announced: nobody else announces anything here."""
        return [row for row in self._announced if stream in {None, row.stream}]

    def announce_listed(self, source: str, stream: str, uploads: list[Upload], *, again: bool) -> None:
        """Announce all of it: nothing is known here."""
        for upload in uploads:
            self._announced.append(
                LandedObject(
                    source,
                    stream,
                    upload.fingerprint,
                    upload.origin,
                    meta=upload.meta,
                    landing_id=-1 - len(self._announced),
                    status="announced",
                )
            )

    def mark_failed(self, landing_id: int, error: str, *, gone: bool = False) -> None:
        """Do nothing: what isn't landed here is forgotten."""

    def mark_passed(self, landing_id: int, why: str) -> None:
        """Do nothing."""

    def _of(self, source: str, stream: str, partition: str) -> list[Batch]:
        return [b for b in self._batches if (b.source, b.stream, b.partition) == (source, stream, partition)]
