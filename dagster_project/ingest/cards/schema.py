"""The JSON Schema of card files, for editors, and the reference page of card fields: both made from the models.

Nothing here is kept by hand: ``docs/card.schema.json`` and ``docs/cards.md`` are written from it and tested current
(``python -m dagster_project.ingest.cards.schema docs`` writes them).
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticUndefined

from dagster_project.ingest.cards import type_names
from dagster_project.ingest.cards.base import SecretRef, SettingRef, SourceCard, StreamCard
from dagster_project.ingest.cards.described import field_descriptions
from dagster_project.ingest.durations import parse_duration

TYPE_PREFIX = "dagster_project.components."


def json_schema() -> dict[str, Any]:
    """Make the JSON Schema (draft 2020-12) of a whole card file."""
    keys, definitions = models_json_schema(
        [(model, "validation") for model in type_names.values()], ref_template="#/$defs/{model}"
    )
    variants = []
    for name, model in type_names.items():
        variants.append(
            {
                "title": name,
                "type": "object",
                "properties": {
                    "type": {"const": TYPE_PREFIX + name, "description": _summary(model)},
                    "attributes": keys[(model, "validation")],
                },
                "required": ["type", "attributes"],
            }
        )
    defs = definitions["$defs"]
    for name, node in defs.items():
        _durations(node, name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A source's card",
        "oneOf": variants,
        "$defs": defs,
    }


def _durations(node: Any, model: str) -> None:
    """Allow texts such as 30s where the models take seconds, and one text where they take a list of names."""
    if isinstance(node, dict):
        for name, value in (node.get("properties") or {}).items():
            if (model, name) in _DURATION_FIELDS:
                options = value.pop("anyOf", None) or [{"type": value.pop("type", "number")}]
                value["anyOf"] = [*options, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*$"}]
            if name in {"primary_key", "newest_by"}:
                items = {"type": value.pop("type"), "items": value.pop("items")}
                value["anyOf"] = [items, {"type": "string"}]
        for value in node.values():
            _durations(value, model)
    elif isinstance(node, list):
        for value in node:
            _durations(value, model)


def _duration_fields() -> set[tuple[str, str]]:
    """Give the name of the model and of the field, for each field that takes a duration."""
    found = set()
    for model in _all_models():
        for name, field in model.model_fields.items():
            if _takes_durations(field.metadata) or any(
                _takes_durations(getattr(part, "__metadata__", ())) for part in get_args(field.annotation)
            ):
                found.add((model.__name__, name))
    return found


def _takes_durations(metadata: Iterable[Any]) -> bool:
    return any(getattr(each, "func", None) is parse_duration for each in metadata)


def _all_models() -> list[type[BaseModel]]:
    """List every model of a card, each once, from the outside in."""
    found: dict[type[BaseModel], None] = {}

    def walk(model: type[BaseModel]) -> None:
        if model in found:
            return
        found[model] = None
        for field in model.model_fields.values():
            for below in _models(field.annotation):
                walk(below)

    for model in type_names.values():
        walk(model)
    return list(found)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in get_args(annotation) for model in _models(each)]


def _summary(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").replace("\n", " ")


_DURATION_FIELDS = _duration_fields()


def reference() -> str:
    """Write the reference page of card fields, in Markdown."""
    lines = [
        "# What a card may say",
        "",
        "Made from the card models by `python -m dagster_project.ingest.cards.schema docs`; a test keeps it current.",
        "A card is a `defs.yaml` with `type: dagster_project.components.<kind>` and the fields below under",
        "`attributes:`. For completion in an editor put this on its first line:",
        "",
        "```yaml",
        "# yaml-language-server: $schema=../../../docs/card.schema.json",
        "```",
        "",
        "Durations are seconds, or `500ms`, `30s`, `15m`, `2h`, `90d`, `4w`. Where a *reference* is allowed, write",
        "`{setting: name}` or `{secret: NAME}`. **Bold** fields must be given.",
        "",
    ]
    shared = set(SourceCard.model_fields)
    stream_shared = set(StreamCard.model_fields)
    lines += _section("Every source", SourceCard, set())
    for name, model in type_names.items():
        lines += _section(name, model, shared)
    lines += _section("Every stream", StreamCard, set())
    done: set[type[BaseModel]] = {SourceCard, StreamCard, SettingRef, SecretRef, *type_names.values()}
    for part in _all_models():
        if part in done:
            continue
        done.add(part)
        lines += _section(part.__name__, part, stream_shared if issubclass(part, StreamCard) else set())
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, model: type[BaseModel], inherited: set[str]) -> list[str]:
    lines = [f"## {title}", "", _summary(model), ""]
    fields = {name: field for name, field in model.model_fields.items() if name not in inherited}
    if inherited and len(fields) < len(model.model_fields):
        base = "stream" if issubclass(model, StreamCard) else "source"
        lines += [f"Besides the fields of [every {base}](#every-{base}):", ""]
    lines += ["| field | is | default | |", "|---|---|---|---|"]
    texts = field_descriptions(model)
    for name, field in fields.items():
        written = field.alias or name
        label = f"**`{written}`**" if field.is_required() else f"`{written}`"
        described = re.sub(r"``(.+?)``", r"`\1`", texts.get(name, "").replace("\n", " ")).replace("|", "\\|")
        kind = "duration" if (model.__name__, name) in _DURATION_FIELDS else _kind(field.annotation)
        lines.append(f"| {label} | {kind} | {_default(field)} | {described} |")
    return [*lines, ""]


def _kind(annotation: Any) -> str:
    """Name a type in the words of a card."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(args[0])
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in args)
    if origin in (Union, UnionType):
        parts = []
        for part in args:
            if part is not NoneType and (name := _kind(part)) not in parts:
                parts.append(name)
        return " or ".join(parts)
    if origin is list:
        return f"list of {_kind(args[0])}"
    if origin is dict:
        return f"name: {_kind(args[1])}"
    if annotation in (SettingRef, SecretRef):
        return "reference"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "text", int: "whole number", float: "number", bool: "`true` \\| `false`", Any: "anything"}
    return names.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)  # type: ignore[call-overload,unused-ignore]
    if value is None or value is PydanticUndefined or value in ({}, []) or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def write(folder: Path) -> None:
    """Write the schema and the reference page."""
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    (folder / "card.schema.json").write_text(text, encoding="utf-8")
    (folder / "cards.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
