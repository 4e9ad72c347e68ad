"""When a source runs: its card's cron expression, which a setting may give, and how far apart two runs are.

This is read when definitions load, because a schedule is part of them; every other reference in a card waits for the
step that needs it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from dagster_project.ingest.cards.base import Schedule, SettingRef, SourceCard
from dagster_project.ingest.cards.cron import cron_fields

_said: set[str] = set()


def cron_of(schedule: Schedule) -> str:
    """Give the cron expression, following a setting.

    Raises:
        SettingsError: The setting has no value.
        ValueError: Its value is no cron expression.
    """
    cron = schedule.cron
    if isinstance(cron, SettingRef):
        from dagster_project.settings import get_settings

        name, cron = cron.setting, get_settings().resolve_setting(cron.setting)
        try:
            return cron_fields(cron)
        except ValueError as error:
            raise ValueError(f"setting {name}: {error}") from None
    return cron_fields(cron)


def usable_cron(card: SourceCard) -> str | None:
    """Give the cron expression, or None where the card has none or its setting is missing or wrong.

    One source's missing setting must not take the code location down: the schedule is left out with a warning, and
    `bindery check` names it.
    """
    if card.schedule is None:
        return None
    from dagster_project.settings import SettingsError

    try:
        return cron_of(card.schedule)
    except (SettingsError, ValueError) as error:
        # Asked for by every part of the definitions, and by every one of their checks: said once.
        if (text := f"{card.source} has no schedule: {error}") not in _said:
            _said.add(text)
            logging.getLogger(__name__).warning("%s", text)
        return None


def interval_seconds(card: SourceCard) -> float | None:
    """Give the time between the next two ticks of the schedule, None where there is none."""
    cron = usable_cron(card)
    if cron is None:
        return None
    from dagster._utils.schedules import cron_string_iterator

    ticks = cron_string_iterator(datetime.now(UTC).timestamp(), cron, "UTC")
    first = next(ticks)
    return (next(ticks) - first).total_seconds()
