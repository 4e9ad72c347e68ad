"""What a card may say, as pydantic models: the one definition behind YAML, ``bindery check`` and the JSON Schema."""

from __future__ import annotations

from dagster_project.ingest.cards.base import SourceCard, StreamCard
from dagster_project.ingest.cards.file import FileSourceCard, FileStream
from dagster_project.ingest.cards.rest import RestApiSourceCard, RestStream
from dagster_project.ingest.cards.web import WebSourceCard, WebStream

type_names: dict[str, type[SourceCard]] = {
    "RestApiSource": RestApiSourceCard,
    "WebSource": WebSourceCard,
    "FileSource": FileSourceCard,
}

__all__ = [
    "FileSourceCard",
    "FileStream",
    "RestApiSourceCard",
    "RestStream",
    "SourceCard",
    "StreamCard",
    "WebSourceCard",
    "WebStream",
    "type_names",
]
