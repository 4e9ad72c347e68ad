"""How dbt's nodes are cut into ops: nodes that depend on the same set of sources are one op.

A broken source then stops exactly its own models and what depends on them, and the graph of ops can't have a cycle,
because a node's set contains the sets of everything before it (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Iterable
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

    A test that compares relations of different steps, none of which comes after the other, becomes a check of the
    first relation that depends on all of them.

    Returns:
        The steps, and the tests (with their relation) that even so fit into none of them: nothing depends on all that
        they compare.
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
        later = _after_all(manifest, uid, parents, steps) if not _fits(manifest, steps, uid, target) else target
        if later is None:
            loose[uid] = (node, target)
        else:
            steps[manifest.signature(later)].tests[uid] = (node, later)
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


def _fits(manifest: Manifest, steps: dict[frozenset[str], Step], test: str, target: str) -> bool:
    """Say whether all that a test reads is there when the step of its relation runs."""
    step = steps[manifest.signature(target)]
    return manifest.signature(test) <= step.sources and manifest.parents(test) <= _before(manifest, step.assets)


def _after_all(manifest: Manifest, test: str, parents: set[str], steps: dict[frozenset[str], Step]) -> str | None:
    """Give the relation with the fewest sources, by name the first, that depends on all that a test reads."""
    fitting = (step for sources, step in steps.items() if manifest.signature(test) <= sources)
    for step in sorted(fitting, key=lambda step: (len(step.sources), step.name)):
        for uid in sorted(step.assets):
            if parents <= _before(manifest, [uid]):
                return uid
    return None


def _before(manifest: Manifest, relations: Iterable[str]) -> set[str]:
    """Give relations with everything that they depend on."""
    seen: set[str] = set()
    waiting = list(relations)
    while waiting:
        uid = waiting.pop()
        if uid not in seen:
            seen.add(uid)
            if uid in manifest.assets:
                waiting.extend(manifest.parents(uid))
    return seen
