"""Listing a bucket for what notifications lost, a stretch at a time, so that a large one keeps nobody waiting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from dagster_project.ingest.fetch.uploads import Upload, list_uploads
from dagster_project.ingest.inbox.log import announce_listed

if TYPE_CHECKING:
    from dagster_project.ingest.inbox.consume import Route
    from dagster_project.ingest.runtime import Runtime

PAGE: Final = 1000
"""Objects compared in one statement."""


def reconcile(
    route: Route, runtime: Runtime, *, seconds: float = 20.0, after: tuple[str, str] | None = None
) -> tuple[int, tuple[str, str] | None]:
    """Announce what a bucket holds and the log doesn't know.

    Args:
        route: The card and its bucket.
        runtime: Connections.
        seconds: After which it stops.
        after: Where the last call stopped: stream and key.

    Returns:
        How many were announced, and where to go on; None when everything was listed.

    Raises:
        SourceError: The bucket can't be listed.
    """
    found = 0
    deadline = time.monotonic() + seconds
    names = [stream.name for stream in route.card.streams]
    first = names.index(after[0]) if after is not None and after[0] in names else 0
    with runtime.connect() as connection:
        connection.autocommit = True
        for stream in route.card.streams[first:]:
            key = after[1] if after is not None and after[0] == stream.name else ""
            page: list[Upload] = []
            for upload in list_uploads(route.place, stream.patterns, after=key):
                page.append(upload)
                if len(page) == PAGE:
                    found += announce_listed(connection, route.card.source, stream.name, page)
                    page.clear()
                    if time.monotonic() > deadline:
                        return found, (stream.name, upload.key)
            found += announce_listed(connection, route.card.source, stream.name, page)
    return found, None
