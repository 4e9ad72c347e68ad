"""When a source runs: its card's cron expression, which a setting may give, and how far apart two runs are.

This is read when definitions load, because a schedule is part of them; every other reference in a card waits for the
step that needs it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from dagster_project.ingest.cards.base import Schedule, SettingRef, SourceCard

_ALIASES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


def cron_of(schedule: Schedule) -> str:
    """Give the cron expression, following a setting.

    Raises:
        SettingsError: The setting has no value.
    """
    cron = schedule.cron
    if isinstance(cron, SettingRef):
        from dagster_project.settings import get_settings

        cron = get_settings().resolve_setting(cron.setting)
    return _ALIASES.get(cron.strip(), cron.strip())


def usable_cron(card: SourceCard) -> str | None:
    """Give the cron expression, or None where the card has none or its setting is missing or wrong.

    One source's missing setting must not take the code location down: the schedule is left out with a warning, and
    `bindery check` names it.
    """
    if card.schedule is None:
        return None
    from dagster._utils.schedules import is_valid_cron_string

    from dagster_project.settings import SettingsError

    try:
        cron = cron_of(card.schedule)
    except SettingsError as error:
        logging.getLogger(__name__).warning("%s has no schedule: %s", card.source, error)
        return None
    if not is_valid_cron_string(cron):
        logging.getLogger(__name__).warning("%s has no schedule: %r is no cron expression", card.source, cron)
        return None
    return cron


def interval_seconds(card: SourceCard) -> float | None:
    """Give the time between the next two ticks of the schedule, None where there is none."""
    cron = usable_cron(card)
    if cron is None:
        return None
    from dagster._utils.schedules import cron_string_iterator

    ticks = cron_string_iterator(datetime.now(UTC).timestamp(), cron, "UTC")
    first = next(ticks)
    return (next(ticks) - first).total_seconds()
