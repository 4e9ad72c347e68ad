"""The asset and check specs of dbt's nodes: keys, groups, owners, kinds, columns, freshness."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.dbt_assets.manifest import Manifest, Node

DEFAULT_OWNERS = ["team:analytics"]
WARN_AFTER_HOURS = 26
FAIL_AFTER_HOURS = 50
"""Freshness of marts where a model's ``meta.freshness`` says nothing: the slowest daily source, and twice that."""


def asset_key(node: Node) -> dg.AssetKey:
    """Give the key of a relation: schema and table, so that it is also what one types into psql."""
    return dg.AssetKey([node.schema or "public", node.table])


def group_of(node: Node, manifest: Manifest) -> str:
    """Give the group: staging models go with their source, the others with their layer."""
    if node.schema == "staging":
        sources = manifest.signature(node.unique_id)
        if len(sources) == 1:
            return next(iter(sources))
    return node.schema or node.resource_type


def asset_spec(node: Node, manifest: Manifest, project_dir: Path) -> dg.AssetSpec:
    """Build the spec of a relation."""
    parents = sorted(manifest.parents(node.unique_id))
    columns = [
        dg.TableColumn(
            name=column.name,
            type=(column.data_type or "?").lower(),
            description=column.description or None,
            constraints=dg.TableColumnConstraints(nullable=column.nullable),
        )
        for column in node.columns.values()
    ]
    owners = node.config.meta.get("owners") or manifest.owners.get(node.group or "") or DEFAULT_OWNERS
    return dg.AssetSpec(
        asset_key(node),
        deps=[asset_key(manifest.nodes[uid]) for uid in parents],
        description=node.description or f"dbt {node.resource_type} `{node.name}`.",
        group_name=group_of(node, manifest),
        kinds={"dbt", "postgres", node.materialized},
        owners=[owners] if isinstance(owners, str) else list(owners),
        tags={"layer": node.schema or "none"},
        metadata={
            "dagster/table_name": f"{node.schema}.{node.table}",
            **({"dagster/column_schema": dg.TableSchema(columns=columns)} if columns else {}),
            **_written_in(project_dir / node.original_file_path),
        },
        freshness_policy=_freshness(node),
        skippable=True,
    )


def check_spec(test: Node, target: Node, manifest: Manifest) -> dg.AssetCheckSpec:
    """Build the spec of a test as a check of a relation."""
    others = [
        asset_key(manifest.nodes[uid])
        for uid in sorted(manifest.parents(test.unique_id))
        if uid != target.unique_id and uid in manifest.assets
    ]
    return dg.AssetCheckSpec(
        check_name(test),
        asset=asset_key(target),
        description=test.description or f"dbt test in {test.original_file_path}",
        blocking=test.blocks,
        additional_deps=others,
    )


def check_name(test: Node) -> str:
    """Name the check of a test."""
    return re.sub(r"\W+", "_", test.name)


def keys_of(nodes: Iterable[Node]) -> dict[dg.AssetKey, Node]:
    """Index relations by their asset keys."""
    return {asset_key(node): node for node in nodes}


def _freshness(node: Node) -> dg.FreshnessPolicy | None:
    stated: dict[str, Any] = node.config.meta.get("freshness") or {}
    if node.schema != "marts" and not stated:
        return None
    return dg.FreshnessPolicy.time_window(
        warn_window=timedelta(hours=float(stated.get("warn_after_hours", WARN_AFTER_HOURS))),
        fail_window=timedelta(hours=float(stated.get("fail_after_hours", FAIL_AFTER_HOURS))),
    )


def _written_in(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(path), line_number=1, label="model")
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
