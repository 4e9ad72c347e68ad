"""Fetching an API: its streams in order, with one client. How one stream is read is in ``rest_stream``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from dagster_project.ingest.cards.rest import RestApiSourceCard, RestStream
from dagster_project.ingest.fetch.auth import make_auth
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.rest_stream import RestStreamFetch, fingerprint_of_stream
from dagster_project.ingest.fetch.session import FetchSession
from dagster_project.ingest.fetch.waiting import left_to_load


class RestFetcher:
    """Fetches the streams of an API, parents before their children."""

    def fetch(self, session: FetchSession) -> None:
        """Land what is new of each stream."""
        card = cast(RestApiSourceCard, session.card)
        base = session.value(card.base_url)
        headers = {name: session.value(value) for name, value in card.headers.items()}
        with HttpClient.of(session, card, base, headers=headers) as client:
            if card.auth is not None:
                client.auth = make_auth(card.auth, session, client)
            streams = list(_ordered(card, session.streams))
            for stream in streams:
                if not left_to_load(session, stream) and not _awaited(session, client, streams, stream):
                    RestStreamFetch(session, client, stream).run()


def _ordered(card: RestApiSourceCard, names: tuple[str, ...]) -> Iterator[RestStream]:
    """Give the streams, each after its parent, which is fetched too even where it wasn't asked for."""
    done: set[str] = set()

    def after_parents(name: str) -> Iterator[RestStream]:
        if name in done:
            return
        done.add(name)
        stream = cast(RestStream, card.stream(name))
        if stream.parent is not None:
            yield from after_parents(stream.parent.stream)
        yield stream

    for name in names:
        yield from after_parents(name)


def _awaited(session: FetchSession, client: HttpClient, streams: list[RestStream], stream: RestStream) -> bool:
    """Tell whether a killed fetch had sealed this stream and was at its children: then they go on first.

    Asking for the parents again would make the children start over. A child that *failed* doesn't hold its parent back.
    """
    source, partition = session.card.source, session.partition
    if session.full_refresh:
        return False
    newest = session.log(lambda log: log.newest_sealed(source, stream.name, partition))
    if newest is None:
        return False
    for child in streams:
        if child.parent is None or child.parent.stream != stream.name:
            continue
        name = child.name
        batch = session.log(lambda log, name=name: log.open_one(source, name, partition))  # type: ignore[misc]
        fingerprint = fingerprint_of_stream(session, client, child)
        if batch is None or batch.error is not None or batch.fingerprint != fingerprint or batch.resume is None:
            continue
        if batch.resume.get("batches", [None])[-1] == newest.batch_id:
            figures = session.figures(stream.name)
            figures.resumed = figures.sealed = True
            figures.batch_id = newest.batch_id
            return True
    return False
