"""The components themselves: a card becomes two ops, three jobs, a schedule, and a sensor where a folder is watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel

from dagster_project.components.automation import folder_sensor, jobs, schedule
from dagster_project.components.landing import CardFile, landing_asset
from dagster_project.components.loading import raw_assets
from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.ingest.cards.rest import RestApiSourceCard
from dagster_project.ingest.cards.web import WebSourceCard


class SourceComponent(dg.Component):
    """A source declared by a card."""

    card_type: type[SourceCard]

    def __init__(self, card: SourceCard, path: Path, line: int = 1) -> None:
        self.card = card
        self.path = path
        self.line = line

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Give the engine's card: one model for the form in Dagster, for `bindery check` and for the JSON Schema."""
        return cls.card_type

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Keep the card, and where it is written."""
        if not isinstance(attributes, cls.card_type):
            raise dg.DagsterInvalidDefinitionError(f"{context.path}: a {cls.__name__} needs `attributes:`")
        path = Path(context.path)
        tree = context.resolution_context.source_position_tree
        return cls(attributes, path / "defs.yaml" if path.is_dir() else path, tree.position.start.line if tree else 1)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build everything of the source."""
        return self.definitions()

    def definitions(self) -> dg.Definitions:
        """Build everything of the source, wherever its card came from."""
        where = CardFile(self.card, str(self.path), self.line)
        ticks = schedule(self.card)
        watched = isinstance(self.card, FileSourceCard) and self.card.watch
        built: list[Any] = list(jobs(self.card).values())
        return dg.Definitions(
            assets=[landing_asset(where), raw_assets(where)],
            jobs=built,
            schedules=[ticks] if ticks is not None else [],
            sensors=[folder_sensor(self.card)] if watched and isinstance(self.card, FileSourceCard) else [],
        )


class RestApiSource(SourceComponent):
    """A source that answers with JSON over HTTP."""

    card_type = RestApiSourceCard


class WebSource(SourceComponent):
    """A source of web pages."""

    card_type = WebSourceCard


class FileSource(SourceComponent):
    """A source of files in a folder."""

    card_type = FileSourceCard
