"""A reader of .gitlab-ci.yml for tests: includes, ``extends``, ``!reference`` and rules, as GitLab resolves them.

Only what our pipeline uses is understood; anything else is an error, so that nothing passes because it wasn't read.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.run import ROOT

KEYWORDS = {"stages", "include", "workflow", "variables", "default"}
_ATOM = re.compile(
    r'\s*(?P<left>\$\w+|"[^"]*")\s*(?:(?P<how>==|!=|=~)\s*(?P<right>\$\w+|"[^"]*"|null|/(?:[^/\\]|\\.)+/))?\s*'
)


class Reference(list[str]):
    """A path that ``!reference`` names."""


class _Loader(yaml.SafeLoader):
    pass


def _reference(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> Reference:
    return Reference(loader.construct_sequence(node))


_Loader.add_constructor("!reference", _reference)


def load(path: str) -> dict[str, Any]:
    """Read one file of the pipeline."""
    found: dict[str, Any] = yaml.load((ROOT / path).read_text(), _Loader)
    return found


def pipeline(engine: str = "dind") -> dict[str, Any]:
    """Give the whole pipeline, included files first, as GitLab merges them."""
    own = load(".gitlab-ci.yml")
    whole: dict[str, Any] = {}
    for each in own["include"]:
        (rule,) = each["rules"]
        if holds(rule["if"], {"ENGINE": engine}):
            whole |= load(each["local"])
    return whole | own


def jobs(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the jobs, templates applied and references followed."""
    return {
        name: _resolved(whole, {"interruptible": None, **_extended(whole, name)})
        for name in whole
        if name not in KEYWORDS and not name.startswith(".")
    }


def holds(condition: str, variables: dict[str, str]) -> bool:
    """Judge the condition of a rule."""
    return any(all(_atom(part, variables) for part in either.split("&&")) for either in condition.split("||"))


def runs(rules: list[dict[str, Any]], variables: dict[str, str]) -> str:
    """Say when a job with these rules runs: ``on_success``, ``manual``, ..., or ``never``."""
    for rule in rules:
        assert set(rule) <= {"if", "when", "allow_failure"}, rule
        if "if" not in rule or holds(rule["if"], variables):
            return str(rule.get("when", "on_success"))
    return "never"


def _atom(text: str, variables: dict[str, str]) -> bool:
    match = _ATOM.fullmatch(text)
    assert match, f"not understood: {text!r}"

    def value(word: str) -> str | None:
        if word == "null":
            return None
        return word[1:-1] if word.startswith('"') else variables.get(word[1:])

    left = value(match["left"])
    if match["how"] is None:
        return bool(left)
    if match["how"] == "=~":
        return re.search(match["right"][1:-1], left or "") is not None
    return (left == value(match["right"])) is (match["how"] == "==")


def _extended(whole: dict[str, Any], name: str) -> dict[str, Any]:
    job = dict(whole[name])
    parents = job.pop("extends", [])
    merged: dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        merged = _merged(merged, _extended(whole, parent))
    return _merged(merged, job)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(under[key], over[key]) for key in under.keys() & over.keys() if _maps(under[key], over[key])}
    return {**under, **over, **both}


def _maps(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _resolved(whole: dict[str, Any], value: Any) -> Any:
    if isinstance(value, Reference):
        found: Any = whole
        for word in value:
            found = found[word]
        return _resolved(whole, found)
    if isinstance(value, list):
        flat: list[Any] = []
        for each in value:
            resolved = _resolved(whole, each)
            flat += resolved if isinstance(each, Reference) and isinstance(resolved, list) else [resolved]
        return flat
    if isinstance(value, dict):
        return {key: _resolved(whole, each) for key, each in value.items()}
    return value
