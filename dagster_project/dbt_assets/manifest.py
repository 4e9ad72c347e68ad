"""What dbt knows of its project, read from ``manifest.json``: the few fields that assets are made of, typed.

The file is read once per process; macros, most of its bytes, are skipped while decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec


class ManifestError(Exception):
    """The manifest can't be read; the message says how to make a new one."""


class _DependsOn(msgspec.Struct):
    nodes: list[str] = []


class _Constraint(msgspec.Struct):
    type: str = ""


class Column(msgspec.Struct, frozen=True):
    """A column as the model's YAML describes it."""

    name: str
    description: str = ""
    data_type: str | None = None
    constraints: list[_Constraint] = []

    @property
    def nullable(self) -> bool:
        """Whether no constraint forbids NULL."""
        return not any(constraint.type in {"not_null", "primary_key"} for constraint in self.constraints)


class _Config(msgspec.Struct):
    materialized: str | None = None
    severity: str | None = None
    meta: dict[str, Any] = {}
    tags: list[str] | str = []


class Node(msgspec.Struct):
    """A model, snapshot, seed, test or source."""

    unique_id: str
    resource_type: str
    name: str
    original_file_path: str
    fqn: list[str]
    schema: str | None = None
    alias: str | None = None
    identifier: str | None = None
    source_name: str | None = None
    description: str = ""
    columns: dict[str, Column] = {}
    config: _Config = msgspec.field(default_factory=_Config)
    depends_on: _DependsOn = msgspec.field(default_factory=_DependsOn)
    attached_node: str | None = None
    group: str | None = None

    @property
    def table(self) -> str:
        """Name of the relation in the database."""
        return self.alias or self.identifier or self.name

    @property
    def materialized(self) -> str:
        """How dbt keeps it: view, table, incremental, snapshot, seed, ephemeral."""
        return self.config.materialized or self.resource_type

    @property
    def blocks(self) -> bool:
        """Whether, as a test, its failure stops what is downstream."""
        return (self.config.severity or "error").lower() == "error"


class _Owner(msgspec.Struct):
    name: str | None = None
    email: str | list[str] | None = None


class _Group(msgspec.Struct):
    name: str
    owner: _Owner


class _File(msgspec.Struct):
    nodes: dict[str, Node]
    sources: dict[str, Node]
    groups: dict[str, _Group] = {}


ASSETS = frozenset({"model", "snapshot", "seed"})


@dataclass(frozen=True)
class Manifest:
    """The project's nodes by their ids."""

    nodes: dict[str, Node]
    owners: dict[str, list[str]]
    """dbt group -> owners, as Dagster writes them."""

    @cached_property
    def assets(self) -> dict[str, Node]:
        """Nodes that are relations in the database."""
        return {
            uid: node
            for uid, node in self.nodes.items()
            if node.resource_type in ASSETS and node.materialized != "ephemeral"
        }

    @cached_property
    def tests(self) -> dict[str, Node]:
        """Data tests. Unit tests look at the SQL, not at data: they run when it is changed, never with a run."""
        return {uid: node for uid, node in self.nodes.items() if node.resource_type == "test"}

    def parents(self, unique_id: str) -> set[str]:
        """Give the relations (sources too) that a node reads, looking through ephemeral models."""
        found: set[str] = set()
        for uid in self.nodes[unique_id].depends_on.nodes:
            node = self.nodes.get(uid)
            if node is None:
                continue
            if uid in self.assets or node.resource_type == "source":
                found.add(uid)
            else:
                found |= self.parents(uid)
        return found

    def signature(self, unique_id: str) -> frozenset[str]:
        """Give the names of the sources that a node depends on, directly or not."""
        known = self._signatures.get(unique_id)
        if known is None:
            node = self.nodes[unique_id]
            if node.resource_type == "source":
                known = frozenset({source_of(node)})
            else:
                known = frozenset().union(*(self.signature(uid) for uid in self.parents(unique_id)))
            self._signatures[unique_id] = known
        return known

    @cached_property
    def _signatures(self) -> dict[str, frozenset[str]]:
        return {}


def source_of(node: Node) -> str:
    """Name the source that a dbt source table belongs to: all tables of one of our sources arrive in one load."""
    if node.schema == "raw" and "__" in node.table:
        return node.table.partition("__")[0]
    return f"{node.schema}_{node.table}"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: The file is missing or isn't a manifest.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise ManifestError(f"{path} is missing: `bindery dbt parse` makes it") from None
    except (OSError, msgspec.DecodeError) as error:
        raise ManifestError(f"{path} can't be read ({error}): `bindery dbt parse` makes a new one") from error
    owners = {name: _owners(group.owner) for name, group in ((each.name, each) for each in file.groups.values())}
    return Manifest(file.nodes | file.sources, owners)


def _owners(owner: _Owner) -> list[str]:
    if owner.email:
        return [owner.email] if isinstance(owner.email, str) else owner.email
    return [f"team:{owner.name}"] if owner.name else []
