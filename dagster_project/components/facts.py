"""What is known of a source without running it, in the shapes that Dagster shows: groups, owners, tags, columns."""

from __future__ import annotations

from typing import Any, TypedDict

import dagster as dg

from dagster_project.ingest.cards.base import SourceCard, StreamCard


class CommonAttributes(TypedDict):
    """What every asset of a source shares."""

    group_name: str
    owners: list[str]
    tags: dict[str, str]


def common_attributes(card: SourceCard) -> CommonAttributes:
    """Give group, owners and tags of a source's assets."""
    return {"group_name": card.source, "owners": list(card.owners), "tags": {"source": card.source, **card.tags}}


def declared_columns(stream: StreamCard) -> dict[str, Any]:
    """Show the columns that the card states, before any load has found the others."""
    columns = [
        dg.TableColumn(
            name=column.name or field,
            type=column.type or "text",
            description=column.description,
            constraints=dg.TableColumnConstraints(nullable=not column.required and field not in stream.primary_key),
            tags={"pii": "true"} if column.pii else None,
        )
        for field, column in stream.columns.items()
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)} if columns else {}


def rate(amount: float, seconds: float) -> float:
    """Give an amount per second, 0 where no time passed."""
    return round(amount / seconds, 1) if seconds > 0 else 0.0
