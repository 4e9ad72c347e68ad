"""How dbt's nodes are cut into ops: nodes that depend on the same set of sources are one op.

A broken source then stops exactly its own models and what depends on them, and the graph of ops can't have a cycle,
because a node's set contains the sets of everything before it (docs/decisions/0011).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dagster_project.dbt_assets.manifest import Manifest, Node


@dataclass
class Step:
    """One op: relations to build, and the tests that run with them."""

    name: str
    sources: frozenset[str]
    assets: dict[str, Node] = field(default_factory=dict)
    tests: dict[str, tuple[Node, str]] = field(default_factory=dict)
    """Test -> (itself, the relation whose check it is)."""


def cut(manifest: Manifest) -> tuple[list[Step], dict[str, tuple[Node, str]]]:
    """Cut the project.

    Returns:
        The steps, and the tests that fit into none of them (with their relation): such a test compares relations of
        different steps, none of which comes after the others, so it runs after both.
    """
    steps: dict[frozenset[str], Step] = {}
    for uid, node in manifest.assets.items():
        sources = manifest.signature(uid)
        step = steps.setdefault(sources, Step(step_name(sources), sources))
        step.assets[uid] = node
    loose: dict[str, tuple[Node, str]] = {}
    for uid, node in manifest.tests.items():
        parents = manifest.parents(uid)
        target = _target(manifest, node, parents, steps)
        if target is None:
            continue
        step = steps[manifest.signature(target)]
        if manifest.signature(uid) <= step.sources and parents <= _before(manifest, step):
            step.tests[uid] = (node, target)
        else:
            loose[uid] = (node, target)
    return sorted(steps.values(), key=lambda step: (len(step.sources), step.name)), loose


def step_name(sources: frozenset[str]) -> str:
    """Name the op of a set of sources."""
    return "dbt_" + ("_".join(sorted(sources)) or "project")


def _target(manifest: Manifest, test: Node, parents: set[str], steps: dict[frozenset[str], Step]) -> str | None:
    """Say which relation a test is a check of: the one it is written at, or the one that comes last."""
    if test.attached_node in manifest.assets:
        return test.attached_node
    own = sorted(uid for uid in parents if uid in manifest.assets)
    if own:
        return max(own, key=lambda uid: (len(manifest.signature(uid)), uid))
    # A test of a source alone: a check of the first relation that reads the source, so that it stops what it should.
    step = steps.get(manifest.signature(test.unique_id))
    readers = sorted(uid for uid in (step.assets if step else {}) if parents & manifest.parents(uid))
    return readers[0] if readers else None


def _before(manifest: Manifest, step: Step) -> set[str]:
    """Give what is there when the step runs: its own relations and everything that they depend on."""
    seen: set[str] = set()
    waiting = list(step.assets)
    while waiting:
        uid = waiting.pop()
        if uid not in seen:
            seen.add(uid)
            if uid in manifest.assets:
                waiting.extend(manifest.parents(uid))
    return seen
