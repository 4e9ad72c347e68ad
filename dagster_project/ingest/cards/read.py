"""Reading cards from YAML files: every mistake of a file at once, each with its line, its field and what was expected.

What a card may say is in the models; here it is only read. The JSON Schema and the reference page made from the same
models are in ``schema``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from dagster_project.ingest.cards import type_names
from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.cards.layout import indentation
from dagster_project.ingest.cards.schema import json_schema
from dagster_project.ingest.errors import CardError

__all__ = ["json_schema", "read_card", "read_cards"]

PREFIX = "dagster_project.components."
_DAGSTERS_OWN = {"template_vars_module", "requirements", "post_processing"}
"""Keys beside ``type`` and ``attributes`` that Dagster reads."""


class _Loader(yaml.SafeLoader):
    """Reads as Dagster does: dates stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # yaml's own convention
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Mistakes:
    """The mistakes of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[tuple[int, int, str]] = []

    def add(self, node: yaml.Node | None, message: str) -> None:
        """Note a mistake at a node's place."""
        mark = node.start_mark if node is not None else None
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        if (line, column, message) not in self._found:
            self._found.append((line, column, message))

    def error(self) -> CardError | None:
        """Put them in one error, in the order of the file."""
        if not self._found:
            return None
        return CardError(
            "\n".join(f"{self._path}:{line}:{column}: {message}" for line, column, message in sorted(self._found))
        )


def read_card(path: Path | str) -> SourceCard:
    """Read a file with one card.

    Raises:
        CardError: The file has mistakes, no card, or several.
    """
    cards = read_cards(path)
    if len(cards) != 1:
        raise CardError(f"{path}:1:1: expected one card, found {len(cards)}: name one by its source")
    return cards[0]


def read_cards(path: Path | str) -> list[SourceCard]:
    """Read every card of a file; several are separated by ``---``. Components of other types are passed over.

    Raises:
        CardError: The file can't be read or has mistakes; the message lists all of them.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CardError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise CardError(f"{path}: not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise CardError(f"{path}: can't be read: {error.strerror}") from None
    mistakes = _Mistakes(path)
    cards: list[SourceCard] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            card = _document(loader, node, mistakes)
            if card is not None:
                cards.append(card)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "1:1"
        hint = indentation(text, mark.line) if mark is not None else None
        said = f"not YAML: {error.problem or error.context}" + (f": {hint}" if hint else "")
        raise CardError(f"{path}:{where}: {said}") from None
    except yaml.YAMLError as error:
        raise CardError(f"{path}:1:1: not YAML: {error}") from None
    finally:
        loader.dispose()
    seen: set[str] = set()
    for card in cards:
        if card.source in seen:
            mistakes.add(None, f"attributes.source: {card.source!r} is in this file twice")
        seen.add(card.source)
    if (found := mistakes.error()) is not None:
        raise found
    return cards


def _document(loader: _Loader, node: yaml.Node | None, mistakes: _Mistakes) -> SourceCard | None:
    """Read one document of a file; None where it isn't a card or has mistakes."""
    if not isinstance(node, yaml.MappingNode):
        mistakes.add(node, "expected `type:` and `attributes:`, the two parts of a card")
        return None
    parts = {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    wanted = ", ".join(PREFIX + name for name in type_names)
    if "type" not in parts:
        mistakes.add(node, f"type: missing; expected one of {wanted}")
        return None
    type_node = parts["type"][1]
    full_name = str(type_node.value)
    name = full_name.removeprefix(PREFIX)
    if name not in type_names:
        # Other components have their own files and their own checks, unless the name was meant to be ours.
        near = difflib.get_close_matches(name.rsplit(".", 1)[-1], type_names, 1, 0.7)
        if near:
            mistakes.add(type_node, f"type: no component {full_name!r}; did you mean {PREFIX}{near[0]}?")
        elif full_name.startswith(PREFIX):
            mistakes.add(type_node, f"type: no component {full_name!r}; expected one of {wanted}")
        return None
    _repeated(node, "", mistakes)
    for key, (key_node, _) in parts.items():
        if key not in {"type", "attributes"} | _DAGSTERS_OWN:
            hint = _near(key, {"type", "attributes"}) or "; fields of the card belong below `attributes:`"
            mistakes.add(key_node, f"{key}: unknown{hint}")
    if "attributes" not in parts:
        mistakes.add(node, "attributes: missing; the card's fields belong there")
        return None
    attributes = parts["attributes"][1]
    if not isinstance(attributes, yaml.MappingNode):
        mistakes.add(attributes, "attributes: expected fields, such as `source: name`")
        return None
    values = loader.construct_document(node)["attributes"]
    try:
        return type_names[name].model_validate(values)
    except ValidationError as error:
        for place, message in _messages(error, type_names[name], attributes):
            mistakes.add(place, message)
        return None


def _repeated(node: yaml.Node, path: str, mistakes: _Mistakes) -> None:
    """Note keys that stand twice in one mapping: YAML silently takes the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _repeated(item, f"{path}[{index}]", mistakes)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            here = f"{path}.{name}" if path else name
            if name in first and name != "<<":
                mistakes.add(key, f"{here}: is there twice (first in line {first[name]})")
            first.setdefault(name, key.start_mark.line + 1)
            _repeated(value, here, mistakes)


def _messages(
    error: ValidationError, model: type[BaseModel], root: yaml.MappingNode
) -> Iterator[tuple[yaml.Node, str]]:
    """Turn pydantic's errors into one message a field, at its place."""
    by_field: dict[str, tuple[yaml.Node, list[str]]] = {}
    for each in error.errors(include_url=False):
        node, path, models = _place(each["loc"], model, root)
        message = _message(each, models)
        _, messages = by_field.setdefault(path, (node, []))
        if message not in messages:
            messages.append(message)
    for path, (node, messages) in by_field.items():
        # A field that may be written in several ways has one complaint for each way.
        tails = {message.rpartition("; got ")[2] for message in messages}
        if len(messages) > 1 and len(tails) == 1:
            heads = [message.rpartition("; got ")[0].removeprefix("expected ") for message in messages]
            messages = [f"expected {' or '.join(heads)}; got {tails.pop()}"]
        yield node, f"{path}: {' or '.join(messages)}"


def _place(
    location: tuple[int | str, ...], model: type[BaseModel], root: yaml.MappingNode
) -> tuple[yaml.Node, str, list[type[BaseModel]]]:
    """Find what an error is about: the node, the path in words, and the models that the last part belongs to."""
    node: yaml.Node = root
    path = "attributes"
    models: list[type[BaseModel]] = [model]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(part, int) and isinstance(node, yaml.SequenceNode) and part < len(node.value):
            node = node.value[part]
            path += f"[{part}]"
            continue
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if str(key.value) == str(part)), None)
        chosen = [each for each in models if each.__name__ == part or _tag(each) == part]
        if found is None and chosen:
            models = chosen
            continue
        if found is None and not any(part in each.model_fields for each in models):
            continue  # names a way of writing the value, not a part of it
        path += f".{part}"
        if found is None:
            break  # a missing field: the place is the mapping
        node = found[0] if last and not any(part in each.model_fields for each in models) else found[1]
        below = [
            cls
            for each in models
            if part in each.model_fields
            for cls in _models(each.model_fields[str(part)].annotation)
        ]
        if below or not last:
            models = below or models
    return node, path, models


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    values = get_args(field.annotation) if field is not None else ()
    return str(values[0]) if len(values) == 1 else None


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    """List the models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _message(error: Any, models: list[type[BaseModel]]) -> str:
    """Say what is wrong in the words of a card."""
    kind = error["type"]
    if kind == "extra_forbidden":
        known = sorted({field.alias or name for model in models for name, field in model.model_fields.items()})
        return "unknown field" + (_near(str(error["loc"][-1]), known) or f"; known here: {', '.join(known)}")
    if kind == "missing":
        return "missing"
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    context = error.get("ctx") or {}
    if kind in {"literal_error", "union_tag_invalid"}:
        expected = str(context.get("expected") or context.get("expected_tags"))
        given = error["input"].get("type") if isinstance(error["input"], dict) else error["input"]
        choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
        return f"expected one of {', '.join(choices)}; got {given!r}" + _near(str(given), choices)
    if kind == "union_tag_not_found":
        return "`type` is missing, which says what kind it is"
    if kind in {"model_type", "model_attributes_type"}:
        wanted = {
            "SettingRef": "{setting: name}",
            "SecretRef": "{secret: NAME}",
            "StepCompute": "the name of a compute class, or fields such as {cpu: 2, memory: 3GiB}",
        }
        return f"expected {wanted.get(str(context.get('class_name')), 'fields')}; got {_short(error['input'])}"
    words = {
        "string_type": "a text (put it in quotes)",
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "list_type": "a list",
        "dict_type": "fields",
    }
    if kind in words:
        return f"expected {words[kind]}; got {_short(error['input'])}"
    message = str(error["msg"])
    return f"{message[:1].lower()}{message[1:]}; got {_short(error['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
