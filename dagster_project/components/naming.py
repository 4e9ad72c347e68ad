"""One name, three homes: the asset keys, op, job and pool names of a source, and the tags of its steps.

Table ``raw.<source>__<stream>`` = asset key ``["raw", "<source>__<stream>"]`` = dbt's ``source('raw', ...)``.
"""

from __future__ import annotations

import dagster as dg

from dagster_project.execution.compute import COMPUTE_TAG
from dagster_project.ingest.cards.base import SourceCard

__all__ = [
    "COMPUTE_TAG",
    "FIRST_RUN",
    "LANE_TAG",
    "backlog_job",
    "fetch_job",
    "fetch_op",
    "landing_key",
    "lane_key",
    "load_job",
    "load_op",
    "output_key",
    "output_op",
    "pool",
    "raw_key",
    "replay_job",
]

LANE_TAG = "bindery.lane"
"""Tag of the assets that land shares of a backlog: a run of everything leaves them out."""

FIRST_RUN = "first_run"
"""Sensor that launches the whole graph once, where an installation is new (operations/first_run.py)."""


def landing_key(source: str) -> dg.AssetKey:
    """Give the key of a source's landed bytes."""
    return dg.AssetKey(["landing", source])


def raw_key(card: SourceCard, stream: str) -> dg.AssetKey:
    """Give the key of a stream's table."""
    return dg.AssetKey(["raw", card.table(stream)])


def lane_key(source: str, lane: int) -> dg.AssetKey:
    """Give the key of a share of a source's backlog; the first share is the source's own."""
    return landing_key(source) if lane == 1 else dg.AssetKey(["landing", source, str(lane)])


def backlog_job(source: str) -> str:
    """Name the job that lands a backlog in several steps side by side, loads it, and goes on downstream."""
    return f"{source}_backlog"


def output_key(card: SourceCard, stream: str) -> dg.AssetKey:
    """Give the key of a stream's rows as files."""
    return dg.AssetKey(["output", card.table(stream)])


def output_op(source: str) -> str:
    """Name the op that writes rows out as files."""
    return f"output__{source}"


def fetch_op(source: str) -> str:
    """Name the op that fetches and lands."""
    return f"landing__{source}"


def load_op(source: str) -> str:
    """Name the op that loads."""
    return f"raw__{source}"


def pool(source: str) -> str:
    """Name the pool that keeps a source's steps from overlapping (limit 1 in deploy/instance)."""
    return f"source_{source}"


def load_job(source: str) -> str:
    """Name the job that loads what is landed, and all downstream."""
    return f"{source}_pipeline"


def fetch_job(source: str) -> str:
    """Name the job that fetches, loads, and goes on downstream."""
    return f"{source}_pipeline_with_scraping"


def replay_job(source: str) -> str:
    """Name the job that loads landed bytes again, and all downstream."""
    return f"{source}_replay"
