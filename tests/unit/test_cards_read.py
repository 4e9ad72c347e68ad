"""Cards from YAML: every mistake of a file at once, each at its line; and what is published about cards is current."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_project.ingest.cards import FileSourceCard, RestApiSourceCard, WebSourceCard
from dagster_project.ingest.cards.read import json_schema, read_card, read_cards
from dagster_project.ingest.cards.schema import reference
from dagster_project.ingest.errors import CardError

ROOT = Path(__file__).parents[2]
REST = """\
type: dagster_project.components.RestApiSource
attributes:
  source: api
  base_url: {setting: api_url}
  archive: {keep: 90d}
  streams:
    - name: things
      path: /things
      primary_key: id
      write: merge
      cursor: {field: updated_at, initial: 2024-01-01}
"""
FILES = """\
type: dagster_project.components.FileSource
attributes:
  source: drops
  path: drop
  streams:
    - {name: rows, files: ["*.csv"]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "defs.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(tmp_path: Path, text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(CardError) as caught:
        read_cards(write(tmp_path, text))
    found = []
    for line in str(caught.value).splitlines():
        match = re.fullmatch(rf"{re.escape(str(tmp_path))}/defs\.yaml:(\d+):(\d+): (.*)", line)
        assert match, line
        found.append((int(match[1]), int(match[2]), match[3]))
    return found


def test_a_card_is_read(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, "\ufeff" + REST))
    assert isinstance(card, RestApiSourceCard)
    assert card.archive.keep == 90 * 86400
    assert card.streams[0].primary_key == ["id"]
    assert card.streams[0].cursor is not None
    assert card.streams[0].cursor.initial == "2024-01-01"


def test_several_cards_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, REST + "---\n" + FILES)
    assert [type(card) for card in read_cards(path)] == [RestApiSourceCard, FileSourceCard]
    with pytest.raises(CardError, match="found 2"):
        read_card(path)


def test_other_components_are_passed_over(tmp_path: Path) -> None:
    assert read_cards(write(tmp_path, "type: dagster_dbt.DbtProjectComponent\nattributes: {project: x}\n")) == []


def test_the_platforms_own_cards_are_read() -> None:
    paths = sorted((ROOT / "dagster_project" / "defs").rglob("defs.yaml"))
    assert {card.source for path in paths for card in read_cards(path)} >= {"gutenberg", "bookshop", "uploads"}


def test_every_mistake_is_found_at_once(tmp_path: Path) -> None:
    text = """\
type: dagster_project.components.RestApiSource
attributes:
  source: Api
  base_url: 5
  shedule: {cron: "@daily"}
  streams:
    - name: books
      path: /books
      paginator: {type: json_link, next_url_pth: next}
      write: upsert
    - name: more
      paginator: {type: jsonlink}
---
type: dagster_project.components.WebSorce
attributes: {}
"""
    assert mistakes(tmp_path, text) == [
        (
            3,
            11,
            (
                "attributes.source: a source's name is lower-case letters, digits and _, starting with a letter, "
                "at most 40: got 'Api'"
            ),
        ),
        (4, 13, "attributes.base_url: expected a text (put it in quotes) or {setting: name}; got 5"),
        (5, 3, "attributes.shedule: unknown field; did you mean `schedule`?"),
        (9, 36, "attributes.streams[0].paginator.next_url_pth: unknown field; did you mean `next_url_path`?"),
        (10, 14, "attributes.streams[0].write: expected one of append, merge, replace; got 'upsert'"),
        (11, 7, "attributes.streams[1].path: missing"),
        (
            12,
            18,
            (
                "attributes.streams[1].paginator: expected one of single_page, json_link, header_link, page_number, "
                "offset, cursor, header_cursor; got 'jsonlink'; did you mean `json_link`?"
            ),
        ),
        (
            14,
            7,
            (
                "type: no component 'dagster_project.components.WebSorce'; "
                "did you mean dagster_project.components.WebSource?"
            ),
        ),
    ]


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (("keep: 90d", "keep: 90x"), (5, 19), "a duration is a number with ms, s, m, h, d or w"),
        (("write: merge", "write: merge\n      write: append"), (11, 7), "is there twice (first in line 10)"),
        (("primary_key: id\n", "description: x\n"), (7, 7), "`write: merge` needs `primary_key`"),
        (("attributes:", "attribute:"), (2, 1), "attribute: unknown; did you mean `attributes`?"),
        (("type: dagster", "typ: dagster"), (1, 1), "type: missing"),
        (("{setting: api_url}", "{seting: api_url}"), (4, 14), "did you mean `setting`?"),
        (("  streams:", "  streams: none\n  x:"), (6, 12), "expected a list; got 'none'"),
        (("path: /things", "path: [a"), None, "not YAML"),
        (("path: /things", "path: @x"), (8, 13), "not YAML"),
    ],
)
def test_mistakes_have_their_place(
    tmp_path: Path, change: tuple[str, str], place: tuple[int, int] | None, message: str
) -> None:
    assert change[0] in REST
    found = mistakes(tmp_path, REST.replace(*change))
    fitting = [(line, column) for line, column, text in found if message in text]
    assert fitting, found
    if place is not None:
        assert place in fitting, found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected `type:` and `attributes:`"),
        ("type: dagster_project.components.FileSource\n", "attributes: missing"),
        ("type: dagster_project.components.FileSource\nattributes: 5\n", "expected fields"),
        (FILES + "---\n" + FILES, "is in this file twice"),
    ],
)
def test_files_that_are_no_cards(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in found for _, _, found in mistakes(tmp_path, text))


HEAD = """\
type: dagster_project.components.RestApiSource
attributes:
  source: weather
  base_url: http://x
"""


@pytest.mark.parametrize(
    ("rest", "line", "said"),
    [
        ("  streams:\n    - name: a\n     path: /a\n", 7, "line 7 is indented by 5, its neighbours by 6"),
        ("  streams:\n    - name: a\n       path: /a\n", 7, "line 7 is indented by 7, its neighbours by 6"),
        (" streams:\n    - name: a\n", 5, "line 5 is indented by 1, its neighbours by 2"),
        ("  streams:\n    - name: a\n   - name: b\n", 7, "line 7 is indented by 3, its neighbours by 4"),
        (
            "  streams:\n    - name: a\n      # a word\n\n      params:\n        a: 1\n       b: 2\n",
            11,
            "line 11 is indented by 7, its neighbours by 8",
        ),
        ("  streams:\n    - name: a\n\t  path: /a\n", 7, "line 7 is indented by a tab; YAML wants spaces"),
    ],
)
def test_a_line_that_is_out_of_line_is_named(tmp_path: Path, rest: str, line: int, said: str) -> None:
    ((at, _, message),) = mistakes(tmp_path, HEAD + rest)
    assert at == line
    assert message.endswith(said)


@pytest.mark.parametrize("rest", ["  streams: a: b\n", "  streams: [\n", "  streams:\n    - {name: a\n      path: b\n"])
def test_other_mistakes_of_yaml_blame_no_indentation(tmp_path: Path, rest: str) -> None:
    ((_, _, message),) = mistakes(tmp_path, HEAD + rest)
    assert "indented" not in message


def test_a_schedule_that_never_comes_is_a_mistake_of_the_card(tmp_path: Path) -> None:
    good = HEAD + "  streams: [{name: a, path: /a}]\n  schedule: {cron: '0 6 * * *', timezone: Europe/Berlin}\n"
    assert read_card(write(tmp_path, good)).schedule is not None
    text = good.replace("0 6", "61 6").replace("Berlin", "Nowhere")
    assert [(line, message) for line, _, message in mistakes(tmp_path, text)] == [
        (
            6,
            "attributes.schedule.cron: '61 6 * * *' is no cron expression: the minute is 0 to 59, got '61'",
        ),
        (
            6,
            "attributes.schedule.timezone: no time zone 'Europe/Nowhere': expected a name such as UTC or Europe/Berlin",
        ),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no such file"):
        read_cards(tmp_path / "nothing.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("source: café".encode("latin-1"))
    with pytest.raises(CardError, match="not UTF-8"):
        read_cards(path)


# -- what is published


def test_the_published_schema_and_reference_are_current() -> None:
    hint = "run `python -m dagster_project.ingest.cards.schema docs`"
    assert json.loads((ROOT / "docs" / "card.schema.json").read_text(encoding="utf-8")) == json_schema(), hint
    assert (ROOT / "docs" / "cards.md").read_text(encoding="utf-8") == reference(), hint


def test_the_reference_names_every_field() -> None:
    text = reference()
    for model in (RestApiSourceCard, WebSourceCard, FileSourceCard):
        for name in model.model_fields:
            assert f"`{name}`" in text


def test_links_of_the_reference_lead_somewhere() -> None:
    text = reference()
    titles = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= titles


def fits(value: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Judge a value by the part of JSON Schema that ours uses."""
    if "$ref" in schema:
        return fits(value, defs[schema["$ref"].rsplit("/", 1)[1]], defs)
    for word, count in (("oneOf", 1), ("anyOf", None)):
        if word in schema:
            matching = sum(fits(value, each, defs) for each in schema[word])
            if matching == 0 or (count and matching != count):
                return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        return False
    types: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(fits(each, schema.get("items", {}), defs) for each in value)
    if isinstance(value, dict):
        if not set(schema.get("required", [])) <= set(value):
            return False
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        for name, each in value.items():
            if name in known:
                if not fits(each, known[name], defs):
                    return False
            elif more is False or (isinstance(more, dict) and not fits(each, more, defs)):
                return False
    return True


def test_the_schema_accepts_the_platforms_cards_and_refuses_wrong_ones() -> None:
    schema = json_schema()
    for path in (ROOT / "dagster_project" / "defs").rglob("defs.yaml"):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if str(document.get("type")).startswith("dagster_project."):
                assert fits(document, schema, schema["$defs"]), path
    good = yaml.safe_load(FILES)
    assert fits(good, schema, schema["$defs"])
    for wrong in ({"attributes": {"source": "x"}}, {"type": "dagster_project.components.Nothing"}):
        assert not fits({**good, **wrong}, schema, schema["$defs"])
    assert not fits({**good, "attributes": {**good["attributes"], "settle": "90x"}}, schema, schema["$defs"])
    assert fits({**good, "attributes": {**good["attributes"], "settle": "90s"}}, schema, schema["$defs"])
