"""One look of the sensor's: every kind of trouble, written down together, then told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster_project.operations.alerts import conditions, store
from dagster_project.operations.alerts.alert import STATES, Alert, Kind
from dagster_project.operations.alerts.deliver import Round, deliver
from dagster_project.operations.alerts.runs import Cursor, finished_runs

if TYPE_CHECKING:
    import dagster as dg

    from dagster_project.settings import Settings


def look(context: dg.SensorEvaluationContext, settings: Settings) -> tuple[str, str]:
    """Look, write down, tell.

    Returns:
        What was done, in words, and the cursor of the next look.
    """
    from dagster_project import warehouse
    from dagster_project.operations.alerts.sensor import NAME

    repository = context.repository_def
    assert repository is not None, "Dagster gives a sensor the repository that it is in"
    instance = context.instance
    with warehouse.connect(settings, "loader", autocommit=True) as connection:
        cursor = Cursor.read(context.cursor, datetime.now(UTC))
        finished, cursor = finished_runs(instance, cursor, lambda: store.open_keys(connection, "run"), settings.ui_url)
        holding: dict[Kind, list[Alert]] = {
            "tick": list(conditions.failed_ticks(instance, repository, NAME)),
            "late": list(conditions.late_assets(instance, repository)),
            "quarantine": list(conditions.crowded_quarantine(connection, settings.alert_quarantined)),
        }
        with connection.transaction():
            store.end(connection, finished.over)
            store.raise_alerts(connection, finished.raised.values())
            for kind in STATES:
                store.raise_alerts(connection, holding[kind])
                store.settle(connection, kind, [alert.key for alert in holding[kind]])
        return said(deliver(connection, settings)), cursor.write()


def said(done: Round) -> str:
    """Put a round into a line for the tick's page."""
    parts = [f"{done.messages} messages on {done.alerts} alerts"] if done.messages else []
    parts += [f"{name}: {reason}" for name, reason in done.silent.items()]
    return "; ".join(parts) or "nothing to tell"
