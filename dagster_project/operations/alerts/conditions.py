"""What is wrong now: ticks that failed, assets that are late, rows in the quarantine. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dagster_project.operations.alerts.alert import Alert

if TYPE_CHECKING:
    import psycopg
    from dagster import AssetKey, DagsterInstance, RepositoryDefinition

NAMED_CODES = 5
"""Reasons of refused rows that a message names."""


def failed_ticks(instance: DagsterInstance, repository: RepositoryDefinition, own: str) -> Iterator[Alert]:
    """Give the sensors and schedules of the code location whose newest tick failed.

    Args:
        instance: Where ticks are kept.
        repository: What there is; a sensor that is gone has its last tick still.
        own: Name of the sensor that asks: it can't tell of itself.
    """
    from dagster._core.scheduler.instigation import TickStatus

    ended = [TickStatus.SUCCESS, TickStatus.FAILURE, TickStatus.SKIPPED]
    for state in instance.all_instigator_state():
        name = state.instigator_name
        known = repository.has_sensor_def(name) or repository.has_schedule_def(name)
        if name == own or not known or not state.is_running:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=ended)
        if not ticks or ticks[0].status is not TickStatus.FAILURE:
            continue
        what = "schedule" if repository.has_schedule_def(name) else "sensor"
        error = ticks[0].error
        reason = f" ({error.cls_name})" if error is not None and error.cls_name else ""
        yield Alert(
            f"tick:{name}",
            "tick",
            f"the {what} {name} fails",
            f"Its last tick, at {when(ticks[0].timestamp)}, failed{reason}: it launches nothing. "
            f"The {what}'s page in the UI has the error.",
        )


def late_assets(instance: DagsterInstance, repository: RepositoryDefinition) -> Iterator[Alert]:
    """Give the assets that are older than their freshness policy allows, as Dagster's own daemon has judged."""
    from dagster._core.definitions.freshness import FreshnessState

    keys = list(keys_with_policy(repository))
    for key, record in sorted(instance.get_freshness_state_records(keys).items()):
        if record.freshness_state is FreshnessState.FAIL:
            name = key.to_user_string()
            yield Alert(
                f"late:{name}",
                "late",
                f"{name} is late",
                f"It is older than its freshness policy allows, since {when(record.updated_at.timestamp())}. "
                "Look at the last runs of what it is made from.",
            )


def keys_with_policy(repository: RepositoryDefinition) -> Iterator[AssetKey]:
    """Give the keys of the assets that have a freshness policy."""
    graph = repository.asset_graph
    for key in graph.materializable_asset_keys:
        if graph.get(key).freshness_policy_or_from_metadata is not None:
            yield key


def crowded_quarantine(connection: psycopg.Connection[Any], most: int) -> Iterator[Alert]:
    """Give the streams with more than so many refused rows that nobody has taken care of."""
    rows = connection.execute(
        "select source, stream, sum(n)::bigint, array_agg(code order by n desc, code), "
        "array_agg(n order by n desc, code) from (select source, stream, code, count(*) n from raw._quarantine "
        "where resolved_by is null group by 1, 2, 3) counted group by 1, 2 having sum(n) > %s order by 1, 2",
        (most,),
    )
    for source, stream, count, codes, counts in rows:
        reasons = ", ".join(f"{code} {number:,}" for code, number in _first(codes, counts))
        yield Alert(
            f"quarantine:{source}.{stream}",
            "quarantine",
            f"{count:,} rows of {source}.{stream} are refused",
            f"Reasons: {reasons}. More than {most:,} wait in the quarantine. `bindery quarantine {source}.{stream}` "
            f"shows them; after a fix `bindery replay {source}` loads them.",
        )


def _first(codes: Iterable[str], counts: Iterable[int]) -> list[tuple[str, int]]:
    return list(zip(codes, counts, strict=True))[:NAMED_CODES]


def when(timestamp: float) -> str:
    """Write a moment."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"
