"""``bindery alert``: which alerts hold, and whether the sinks can be told.

Words and options only; what is told to whom is in ``operations.alerts``.
"""

from __future__ import annotations

import click

from dagster_project.cli.inspect import json_option, query, show


@click.group()
def alert() -> None:
    """Look at alerts, or send a test message to every sink of BINDERY_ALERT_URLS."""


@alert.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """Show the alerts that hold, or were over a moment ago."""
    rows = query(
        "select a.title, a.kind, a.raised_at::timestamp(0) as since, a.over_at::timestamp(0) as over, "
        "max(d.sent_at)::timestamp(0) as told from bindery.alerts a left join bindery.alert_deliveries d using (key) "
        "group by a.key order by a.raised_at"
    )
    show(rows, as_json, "no alert holds")


@alert.command()
def test() -> None:
    """Send a test message to every sink; exit code 1 where one couldn't be told, 2 where there is none."""
    from dagster_project.operations.alerts.deliver import named, urls
    from dagster_project.operations.alerts.sinks import send
    from dagster_project.settings import MissingSettingError, get_settings

    settings = get_settings()
    sinks = urls(settings)
    if not sinks:
        raise MissingSettingError(
            "BINDERY_ALERT_URLS names no sink: `bindery secrets set ALERT_URLS < urls` keeps Apprise URLs, one a line; "
            "docs/operating.md has the command for Docker"
        )
    wrong = 0
    for number, url in enumerate(sinks):
        sent = send(url, f"Bindery ({settings.project}): test", "Alerts of this installation come here.", "info")
        wrong += not sent.good
        said = "told" if sent.good else f"not told: {sent.reason}"
        click.secho(f"{named(number, url)}: {said}", fg=None if sent.good else "red")
    raise SystemExit(1 if wrong else 0)
