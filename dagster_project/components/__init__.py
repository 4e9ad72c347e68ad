"""What a card may say, as Dagster components: from YAML to assets, checks, jobs, schedules and sensors.

A component is thin: its model is the engine's card, its two ops call the engine, and what they report is turned into
metadata and check results here. Fetching, parsing and loading themselves belong to ``ingest``.
"""

from __future__ import annotations

from dagster_project.components.source import FileSource, RestApiSource, SourceComponent, WebSource

__all__ = ["FileSource", "RestApiSource", "SourceComponent", "WebSource"]
