"""``bindery landing``: what the archive of raw bytes holds, and removing what the cards no longer keep."""

from __future__ import annotations

import click

from dagster_project.cli.context import find_card, platform_cards
from dagster_project.cli.inspect import json_option, query, show
from dagster_project.cli.progress import size


@click.group()
def landing() -> None:
    """Look at the archive of raw bytes, or remove what is older than the cards' `archive.keep`."""


@landing.command("show")
@json_option
def landing_show(as_json: bool) -> None:
    """Show what is landed of each stream, and since when."""
    rows = query(
        """
        select b.source || '.' || b.stream as stream, count(distinct b.batch_id) as batches, count(*) as objects,
               pg_size_pretty(sum(l.size)) as received, min(l.observed_at)::timestamp(0) as since,
               count(distinct b.batch_id) filter (where b.purged_at is not null) as removed_batches
        from bindery.batches b join bindery.landed l using (batch_id)
        where l.uri is not null group by 1 order by 1
        """
    )
    show(rows, as_json, "nothing is landed yet")


@landing.command("prune")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--dry-run", is_flag=True, help="Tell what would be removed; remove nothing.")
def landing_prune(sources: tuple[str, ...], dry_run: bool) -> None:
    """Remove archived bytes that are older than `archive.keep` and loaded; without SOURCE, of every card.

    Each load of a source does so too. What is removed can't be replayed any more; tables stay as they are.
    """
    from dagster_project import warehouse
    from dagster_project.ingest.landing import retention
    from dagster_project.ingest.landing.store import archive_at
    from dagster_project.settings import get_settings

    settings = get_settings()
    cards = [find_card(source) for source in sources] or [card for _, card in platform_cards().values()]
    warehouse.ensure_ready(settings)
    archive = archive_at(settings.landing_root)
    with warehouse.connect(settings, "loader", autocommit=True) as connection:
        for card in cards:
            if card.archive.keep is None:
                click.echo(f"{card.source}: keeps everything (no `archive.keep` in its card)")
            elif dry_run:
                would = retention.preview_purge(connection, card)
                click.echo(
                    f"{card.source}: would remove {would.objects:,} objects, {size(would.bytes)} as received, "
                    f"of {len(would.batches):,} batches"
                )
            else:
                click.echo(said(card.source, retention.purge(connection, card, archive)))


def said(source: str, done: object) -> str:
    """Put what a purge did into a line."""
    from dagster_project.ingest.landing.retention import Purge

    assert isinstance(done, Purge)
    if done.busy:
        return f"{source}: a load, or another removal, is under way: try again when it has ended"
    line = f"{source}: removed {done.objects:,} objects, {size(done.bytes)} on disk"
    if done.batches:
        line += f"; {len(done.batches):,} more batches can't be replayed any more"
    if done.waiting:
        line += (
            f"; {done.waiting:,} objects were landed again within two hours and go later, if nothing needs them then"
        )
    return line
