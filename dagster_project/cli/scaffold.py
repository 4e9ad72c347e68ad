"""``bindery new``: a first card for a source, with the words a user most often needs next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dagster_project.cli.context import DEFS, command
from dagster_project.ingest.cards.base import plain_name
from dagster_project.ingest.errors import CardError

HEAD = """\
# yaml-language-server: $schema={schema}
# What each word means: docs/cards.md. Next: {command} check && {command} preview {source}.{stream}
type: dagster_project.components.{type}
attributes:
  source: {source}
  description: ""
  publisher: ""          # who publishes the data
  licence: ""            # under which terms
"""

REST = """\
  base_url: {location}
  # auth: {{type: bearer, token: {{secret: {upper}_TOKEN}}}}
  schedule: {{cron: "@daily"}}
  rate_limit: {{requests: 2, per: second}}
  streams:
    - name: {stream}
      path: /{stream}
      # records: results                                   # JMESPath of the list in the answer
      # paginator: {{type: json_link, next_url_path: next}}  # or page_number, offset, cursor, header_link
      # cursor: {{field: updated_at, param: updated_since}}
      # primary_key: id
      # write: merge
"""

WEB = """\
  base_url: {location}
  schedule: {{cron: "@weekly"}}
  start: [/]
  start_kind: listing
  pages:
    listing:
      follow:
        - {{css: "li.next a", to: listing}}
        - {{css: "h3 a", to: detail}}
    detail: {{}}
  streams:
    - name: {stream}
      page: detail
      primary_key: url
      write: merge
      fields:
        url: {{from_page: url}}
        title: {{css: h1, required: true}}
"""

FILE = """\
  path: {location}
  streams:
    - name: {stream}
      files: ["**/*.csv", "**/*.csv.gz", "**/*.jsonl"]
      # primary_key: id
      # write: merge
      # columns:
      #   id: {{type: bigint, required: true}}
"""

KINDS = {
    "rest": ("RestApiSource", REST, "https://api.example.com"),
    "web": ("WebSource", WEB, "https://example.com"),
    "file": ("FileSource", FILE, "drop/{source}"),
}


@click.group()
def new() -> None:
    """Write the first version of something."""


class Kind(click.Choice[str]):
    """A kind of source, under the names that people try."""

    other = {"files": "file", "api": "rest", "site": "web"}  # noqa: RUF012  # click's own attributes are as open

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give the kind's name."""
        return super().convert(self.other.get(value, value), param, ctx)


@new.command()
@click.argument("name")
@click.option("--type", "kind", type=Kind(list(KINDS)), default="rest", show_default=True)
@click.option("--from", "location", help="The API's or site's URL, or the folder.")
@click.option("--stream", default="records", show_default=True, help="The first stream's name.")
@click.option(
    "--dir", "root", type=click.Path(path_type=Path), default=DEFS, help="Where cards live.", show_default=True
)
def source(name: str, kind: str, location: str | None, stream: str, root: Path) -> None:
    """Write a card for the source NAME."""
    try:
        plain_name(name, "a source's name")
        plain_name(stream, "a stream's name")
    except ValueError as error:
        raise CardError(str(error)) from None
    path = root / name / "defs.yaml"
    if path.exists():
        raise CardError(f"{path} is there already: edit it, or choose another name")
    component, body, example = KINDS[kind]
    schema = Path(__file__).parents[2] / "docs" / "card.schema.json"
    words = {
        "source": name,
        "upper": name.upper(),
        "stream": stream,
        "type": component,
        "location": location or example.format(source=name),
        "schema": relative(schema, path.parent),
        "command": command(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((HEAD + body).format(**words), encoding="utf-8")
    here = words["command"]
    if root.resolve() == DEFS.resolve():
        steps = f"`{here} check`, `{here} preview {name}.{stream}`, `{here} run {name}`"
    else:
        steps = f"`{here} check {path}`, `{here} preview --card {path}`, `{here} run --card {path}`"
    click.echo(f"{path}\nnext: edit it, then {steps}")


def relative(target: Path, start: Path) -> str:
    """Give the path from one folder to a file, with forward slashes."""
    import os.path

    return Path(os.path.relpath(target, start)).as_posix()
