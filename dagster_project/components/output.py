"""The third op of a source whose card has an output: what loads brought, written out as the assets ``output/...``."""

# No postponed annotations here: Dagster reads those of `context` as they are.
from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.components import naming
from dagster_project.components.facts import common_attributes
from dagster_project.components.failures import failure
from dagster_project.components.landing import retry_policy
from dagster_project.components.platform import RESOURCE, LogProgress, platform_of
from dagster_project.ingest.cards.file import FileSourceCard


def output_assets(card: FileSourceCard) -> dg.AssetsDefinition:
    """Build the output assets of a source: one op, one asset a stream."""
    streams = {naming.output_key(card, stream.name): stream for stream in card.streams}

    @dg.multi_asset(
        name=naming.output_op(card.source),
        specs=[
            dg.AssetSpec(
                key,
                deps=[naming.raw_key(card, stream.name)],
                description=f"Rows of raw.{card.table(stream.name)} as Parquet, each load with its manifest.",
                kinds={"parquet"},
                skippable=True,
                **common_attributes(card),
            )
            for key, stream in streams.items()
        ],
        can_subset=True,
        required_resource_keys={RESOURCE},
        op_tags={naming.COMPUTE_TAG: card.compute.load.tag},
        retry_policy=retry_policy(card),
    )
    def output(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        from dagster_project.ingest.output.write import write_outputs

        platform = platform_of(context)
        if platform.debug_rows:
            context.log.info("a debug run writes no output")
            return
        runtime = platform.runtime(run_id=context.run.run_id, progress=LogProgress(context.log))
        selected = {key: stream.name for key, stream in streams.items() if key in context.selected_asset_keys}
        tries_left = context.retry_number < card.retry.attempts
        try:
            report = write_outputs(card, runtime, list(selected.values()))
        except Exception as error:
            raise failure(error, f"writing output of {card.source}", tries_left=tries_left) from error
        for key, name in selected.items():
            written = report.streams.get(name, [])
            if not written:
                context.log.info(f"{card.source}.{name}: nothing new to write")
                continue
            metadata: dict[str, Any] = {
                "manifest": written[-1].manifest,
                "loads": ", ".join(str(each.load_id) for each in written),
                "dagster/row_count": written[-1].rows,
                "rows": sum(each.rows for each in written),
                "bytes": sum(each.bytes for each in written),
                "files": sum(each.files for each in written),
            }
            yield dg.MaterializeResult(asset_key=key, metadata=metadata)

    return output
