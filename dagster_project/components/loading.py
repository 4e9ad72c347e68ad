"""The second op of a source: load what is landed, every selected stream in one transaction, and judge the result.

The engine parses, types, merges and commits; here its report becomes one materialisation a stream, with the checks
that the card implies (``checks``) and the metadata that people look for (``report``).
"""

# No postponed annotations here: Dagster reads those of `context` and `config` as they are.
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.components import naming
from dagster_project.components.checks import check_specs, judge, unfinished_streams
from dagster_project.components.facts import common_attributes, declared_columns
from dagster_project.components.failures import failure
from dagster_project.components.landing import lanes, retry_policy
from dagster_project.components.platform import RESOURCE, LogProgress, platform_of, reading
from dagster_project.components.report import stream_metadata
from dagster_project.ingest.cards.base import SourceCard, StreamCard
from dagster_project.ingest.errors import UnreadableObjectsError

if TYPE_CHECKING:
    from dagster_project.ingest.load.report import LoadReport
    from dagster_project.ingest.runtime import Runtime


class LoadConfig(dg.Config):
    """What one run may ask of a load."""

    replay: str = ""
    """Load landed bytes again: ``all``, or the number of the load whose bytes are wanted."""
    limit: int = 0
    """At most so many rows of each stream; 0 means all."""


def raw_assets(card: SourceCard) -> dg.AssetsDefinition:
    """Build the raw assets of a source: one op, one asset a stream."""
    streams = {naming.raw_key(card, stream.name): stream for stream in card.all_streams}

    @dg.multi_asset(
        name=naming.load_op(card.source),
        specs=[_spec(card, key, stream) for key, stream in streams.items()],
        check_specs=[spec for key, stream in streams.items() for spec in check_specs(card, stream, key)],
        can_subset=True,
        required_resource_keys={RESOURCE},
        op_tags={naming.COMPUTE_TAG: card.compute.load.tag},
        retry_policy=retry_policy(card),
        pool=naming.pool(card.source),
    )
    def load(context: dg.AssetExecutionContext, config: LoadConfig) -> Iterator[dg.MaterializeResult[Any]]:
        yield from load_streams(context, config, card, streams)

    return load


def _spec(card: SourceCard, key: dg.AssetKey, stream: StreamCard) -> dg.AssetSpec:
    metadata: dict[str, Any] = {
        "dagster/table_name": f"raw.{card.table(stream.name)}",
        "write": stream.write,
        **({"primary_key": ", ".join(stream.primary_key)} if stream.primary_key else {}),
        **declared_columns(stream),
    }
    return dg.AssetSpec(
        key,
        deps=[naming.lane_key(card.source, lane) for lane in range(1, lanes(card) + 1)],
        description=stream.description or f"Records `{stream.name}` of {card.source}, as the source gave them, typed.",
        kinds={"postgres", "table"},
        metadata=metadata,
        skippable=True,
        **common_attributes(card),
    )


def load_streams(
    context: dg.AssetExecutionContext, config: LoadConfig, card: SourceCard, streams: dict[dg.AssetKey, StreamCard]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Load the selected streams and report on each.

    Raises:
        dg.Failure: The load was refused or failed; or a stream that this run fetched has not come to its end.
    """
    platform = platform_of(context)
    runtime = platform.runtime(run_id=context.run.run_id, progress=LogProgress(context.log))
    selected = {key: streams[key] for key in streams if key in context.selected_asset_keys}
    names = [stream.name for stream in selected.values()]
    limit = (config.limit or platform.debug_rows) or None
    tries_left = context.retry_number < card.retry.attempts
    report = _run(card, runtime, names, config.replay, limit, tries_left=tries_left)
    for name, done in report.streams.items():
        for warning in done.warnings:
            context.log.warning(f"{card.source}.{name}: {warning}")
    checks = context.selected_asset_check_keys
    with reading(runtime) as cursor:
        unfinished = unfinished_streams(cursor, card.source, names) if _fetched_here(context, card) else {}
        for key, stream in selected.items():
            if stream.name in unfinished:
                continue
            loaded = report.streams.get(stream.name)
            metadata = stream_metadata(cursor, card, stream, loaded, report.load_id)
            if len(report.load_ids) > 1:
                metadata["loads"] = ", ".join(map(str, report.load_ids))
            results = [
                result
                for result in judge(cursor, card, stream, loaded, key)
                if dg.AssetCheckKey(key, str(result.check_name)) in checks  # a run may leave checks out
            ]
            yield dg.MaterializeResult(asset_key=key, metadata=metadata, check_results=results)
    if unfinished:
        told = "\n".join(f"  {card.source}.{name}: {error}" for name, error in unfinished.items())
        raise dg.Failure(
            f"not everything of {card.source} was fetched; the streams that were are loaded. Stopped before the end:\n"
            f"{told}\nThe next fetch resumes where they stopped.",
            allow_retries=False,
        )
    try:
        report.refuse_unreadable(card.source)
    except UnreadableObjectsError as error:
        raise failure(error, f"loading {card.source}") from error


def _run(
    card: SourceCard, runtime: "Runtime", names: list[str], replay: str, limit: int | None, *, tries_left: bool
) -> "LoadReport":
    from dagster_project.ingest.load.run import Replay, load_source

    if replay and replay != "all" and not replay.isdecimal():
        raise dg.Failure(f"replay is `all` or the number of a load, got {replay!r}", allow_retries=False)
    again = None if not replay else Replay(load_id=int(replay) if replay != "all" else None)
    try:
        return load_source(card, runtime, streams=names, replay=again, limit=limit)
    except Exception as error:
        raise failure(error, f"loading {card.source}", tries_left=tries_left) from error


def _fetched_here(context: dg.AssetExecutionContext, card: SourceCard) -> bool:
    """Say whether this run also fetches: only then does a fetch that stopped half-way concern it."""
    return any(node.name == naming.fetch_op(card.source) for node in context.job_def.nodes)
