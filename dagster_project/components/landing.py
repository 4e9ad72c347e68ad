"""The first op of a source: fetch what is new and land its bytes, as the asset ``landing/<source>``.

Nothing here knows HTTP or files; the engine fetches, and this turns its report into an asset's metadata and into the
check that every stream was fetched. A step whose streams failed in part still ends well, so that the others load;
the check is what fails, and the load ends the run in failure (``loading``).
"""

# No postponed annotations here: Dagster reads those of `context` and `config` as they are.
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dagster_project.components import naming
from dagster_project.components.facts import common_attributes, rate
from dagster_project.components.failures import failure, is_transient
from dagster_project.components.platform import RESOURCE, LogProgress, platform_of
from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.cards.file import FileSourceCard

if TYPE_CHECKING:
    from dagster_project.ingest.fetch.report import FetchReport

FETCHED = "every_stream_fetched"
"""Check of a landing asset: no stream stopped half-way."""

LANES_TAG = "bindery/lanes"
"""Of a run: into how many shares a backlog is split."""

COUNTS = ("objects", "bytes", "requests", "retries", "not_found", "unchanged")


class FetchConfig(dg.Config):
    """What one run may ask of a fetch."""

    streams: list[str] = Field(default_factory=list)
    """Only these streams; all of them otherwise."""
    full_refresh: bool = False
    """Forget cursors and read everything again."""
    limit: int = 0
    """At most so many records of each stream; 0 means all."""
    arrivals: bool = False
    """Of a bucket only what is announced, without a list of what else is in it."""


def landing_asset(card: SourceCard) -> dg.AssetsDefinition:
    """Build the landing asset of a source."""
    key = naming.landing_key(card.source)

    @dg.multi_asset(
        name=naming.fetch_op(card.source),
        specs=[
            dg.AssetSpec(
                key,
                description=_description(card),
                kinds={
                    "zstandard",
                    {"FileSourceCard": "file", "WebSourceCard": "html"}.get(type(card).__name__, "api"),
                },
                metadata={"source": card.source, **_terms(card)},
                **common_attributes(card),
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                FETCHED,
                asset=key,
                description="No stream of the source stopped before its end: failed ones resume next time.",
            )
        ],
        required_resource_keys={RESOURCE},
        op_tags={naming.COMPUTE_TAG: card.compute.fetch.tag},
        retry_policy=retry_policy(card),
        # Shares of a backlog are landed side by side: the engine's locks keep them apart from a fetch of the whole.
        pool=naming.pool(card.source) if lanes(card) == 1 else None,
    )
    def land(context: dg.AssetExecutionContext, config: FetchConfig) -> Iterator[dg.MaterializeResult[Any]]:
        yield fetch(context, config, card)

    return land


def lanes(card: SourceCard) -> int:
    """Give how many steps may land a source's backlog side by side."""
    return card.tasks if isinstance(card, FileSourceCard) else 1


def lane_assets(card: SourceCard) -> list[dg.AssetsDefinition]:
    """Build the steps that land shares of a backlog beside the first; runs without a backlog leave them out."""
    return [_lane_asset(card, lane) for lane in range(2, lanes(card) + 1)]


def _lane_asset(card: SourceCard, lane: int) -> dg.AssetsDefinition:
    key = naming.lane_key(card.source, lane)
    common = common_attributes(card)

    @dg.multi_asset(
        name=f"{naming.fetch_op(card.source)}_{lane}",
        specs=[
            dg.AssetSpec(
                key,
                description=f"Share {lane} of a backlog of {card.source}: what is landed joins the rest in one load.",
                kinds={"file"},
                group_name=common["group_name"],
                owners=common["owners"],
                tags={**common["tags"], naming.LANE_TAG: "true"},
            )
        ],
        check_specs=[dg.AssetCheckSpec(FETCHED, asset=key, description="The share was landed to its end.")],
        required_resource_keys={RESOURCE},
        op_tags={naming.COMPUTE_TAG: card.compute.fetch.tag},
        retry_policy=retry_policy(card),
    )
    def land(context: dg.AssetExecutionContext, config: FetchConfig) -> Iterator[dg.MaterializeResult[Any]]:
        if _shares(context, card) is None:
            # A run that isn't about a backlog: the first step lands everything.
            results = [dg.AssetCheckResult(check_name=FETCHED, passed=True)]
            yield dg.MaterializeResult(asset_key=key, metadata={"objects": 0}, check_results=results)
            return
        yield fetch(context, config, card, lane)

    return land


def _shares(context: dg.AssetExecutionContext, card: SourceCard) -> int | None:
    """Tell into how many shares a run splits a backlog; None where it isn't about one."""
    if context.run.job_name != naming.backlog_job(card.source):
        return None
    return int(context.run.tags.get(LANES_TAG) or lanes(card))


def fetch(
    context: dg.AssetExecutionContext, config: FetchConfig, card: SourceCard, lane: int = 1
) -> dg.MaterializeResult[Any]:
    """Fetch, and report.

    Raises:
        dg.Failure: Nothing could be fetched; or something failed in a way that may pass, and a retry is left.
    """
    from dagster_project.ingest.fetch.run import fetch_source

    platform = platform_of(context)
    runtime = platform.runtime(run_id=context.run.run_id, progress=LogProgress(context.log))
    limit = config.limit or platform.debug_rows
    try:
        report = fetch_source(
            card,
            runtime,
            streams=config.streams or None,
            limit=limit or None,
            full_refresh=config.full_refresh or platform.full_refresh,
            lane=(lane, shares) if (shares := _shares(context, card)) is not None else None,
            arrivals=config.arrivals and not (config.full_refresh or platform.full_refresh),
        )
        error: Exception | None = None
    except Exception as raised:
        partial: FetchReport | None = getattr(raised, "report", None)
        some_went_well = partial is not None and any(stream.sealed for stream in partial.streams.values())
        tries_left = context.retry_number < card.retry.attempts
        if partial is None or not some_went_well or (is_transient(raised) and tries_left):
            raise failure(raised, f"fetching {card.source}", tries_left=tries_left) from raised
        report, error = partial, raised
    for name, stream in report.streams.items():
        for warning in stream.warnings:
            context.log.warning(f"{card.source}.{name}: {warning}")
    return dg.MaterializeResult(
        asset_key=naming.lane_key(card.source, lane),
        metadata=fetch_metadata(report),
        check_results=[
            dg.AssetCheckResult(
                check_name=FETCHED,
                passed=error is None,
                severity=dg.AssetCheckSeverity.ERROR,
                description=str(error) if error else None,
                metadata={name: str(stream.error) for name, stream in report.streams.items() if stream.error},
            )
        ],
    )


def fetch_metadata(report: "FetchReport") -> dict[str, Any]:
    """Sum up a fetch: totals first, then one line a stream."""
    streams = report.streams
    totals: dict[str, Any] = {name: sum(getattr(s, name) for s in streams.values()) for name in COUNTS}
    seconds = report.seconds
    lines = ["|stream|" + "|".join(COUNTS) + "|seconds|", "|---|" + "---:|" * (len(COUNTS) + 1)]
    for name, stream in streams.items():
        counts = "|".join(f"{getattr(stream, count):,}" for count in COUNTS)
        lines.append(f"|{name}|{counts}|{stream.seconds:.2f}|")
    return {
        **totals,
        "seconds": round(seconds, 3),
        "bytes_per_second": rate(totals["bytes"], seconds),
        "resumed": any(stream.resumed for stream in streams.values()),
        "streams": dg.MetadataValue.md("\n".join(lines)),
    }


def retry_policy(card: SourceCard) -> dg.RetryPolicy | None:
    """Give the retry policy that the card asks for; it applies to transient failures only (``failures``)."""
    if not card.retry.attempts:
        return None
    return dg.RetryPolicy(
        max_retries=card.retry.attempts,
        delay=card.retry.delay,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


def _terms(card: SourceCard) -> dict[str, Any]:
    terms: dict[str, Any] = {"publisher": card.publisher, "licence": card.licence}
    if card.homepage:
        terms["homepage"] = dg.MetadataValue.url(card.homepage)
    return {name: value for name, value in terms.items() if value is not None}


def _description(card: SourceCard) -> str:
    streams = ", ".join(f"`{stream.name}`" for stream in card.all_streams)
    about = (card.description or f"The source {card.source}.").strip()
    return f"{about}\n\nRaw bytes as received, kept so that {streams} can be loaded again without asking the source."
