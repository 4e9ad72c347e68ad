"""The components themselves: a card becomes two ops, three jobs, a schedule, and a sensor where a folder is watched."""

from __future__ import annotations

from typing import Any, Self

import dagster as dg
from pydantic import BaseModel

from dagster_project.components import naming
from dagster_project.components.automation import folder_sensor, jobs, schedule
from dagster_project.components.landing import landing_asset, lane_assets
from dagster_project.components.loading import raw_assets
from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.ingest.cards.rest import RestApiSourceCard
from dagster_project.ingest.cards.web import WebSourceCard


class SourceComponent(dg.Component):
    """A source declared by a card."""

    card_type: type[SourceCard]

    def __init__(self, card: SourceCard) -> None:
        self.card = card

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Give the engine's card: one model for the form in Dagster, for `bindery check` and for the JSON Schema."""
        return cls.card_type

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Keep the card; Dagster itself adds to each asset where the card is written."""
        if not isinstance(attributes, cls.card_type):
            raise dg.DagsterInvalidDefinitionError(f"{context.path}: a {cls.__name__} needs `attributes:`")
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build everything of the source."""
        return self.definitions()

    def definitions(self) -> dg.Definitions:
        """Build everything of the source, wherever its card came from."""
        ticks = schedule(self.card)
        watched = isinstance(self.card, FileSourceCard) and self.card.watch
        named = jobs(self.card)
        built: list[Any] = list(named.values())
        targets = [
            named[name]
            for name in (naming.fetch_job(self.card.source), naming.backlog_job(self.card.source))
            if name in named
        ]
        return dg.Definitions(
            assets=[landing_asset(self.card), *lane_assets(self.card), raw_assets(self.card), *self._output()],
            jobs=built,
            schedules=[ticks] if ticks is not None else [],
            sensors=[folder_sensor(self.card, targets)] if watched and isinstance(self.card, FileSourceCard) else [],
        )

    def _output(self) -> list[dg.AssetsDefinition]:
        if not isinstance(self.card, FileSourceCard) or self.card.output is None:
            return []
        from dagster_project.components.output import output_assets

        return [output_assets(self.card)]


class RestApiSource(SourceComponent):
    """A source that answers with JSON over HTTP."""

    card_type = RestApiSourceCard


class WebSource(SourceComponent):
    """A source of web pages."""

    card_type = WebSourceCard


class FileSource(SourceComponent):
    """A source of files in a folder."""

    card_type = FileSourceCard
