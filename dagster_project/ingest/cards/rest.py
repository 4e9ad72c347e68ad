"""What a card of a REST API may say. Names of paginators and authentication follow dlt's where it has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dagster_project.ingest.cards.base import CardModel, Number, SecretText, SourceCard, StreamCard, Text
from dagster_project.ingest.cards.http import HttpOptions


def _jmespath(value: str) -> str:
    import jmespath

    try:
        jmespath.compile(value)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"{value!r} is no JMESPath expression: {error}") from None
    return value


JmesPath = Annotated[str, AfterValidator(_jmespath)]
"""Where something is in a JSON document, such as ``data.items`` (https://jmespath.org)."""


class SinglePage(CardModel):
    """One request gives everything."""

    type: Literal["single_page"] = "single_page"


class MayBeAbsent(CardModel):
    """A paginator that follows what an answer says about the next page."""

    absent: Literal["warn", "end"] = "warn"
    """What a *first* page means that has records and doesn't mention a next one at all (``null`` does): ``warn`` of a
    wrong path, and don't take what was read for everything; or ``end``, the source leaves it out on its last page."""


class JsonLink(MayBeAbsent):
    """The answer carries the next page's URL."""

    type: Literal["json_link"]
    next_url_path: JmesPath = "next"
    """JMESPath of the next URL."""


class HeaderLink(MayBeAbsent):
    """The next page is in the ``Link`` header (RFC 8288)."""

    type: Literal["header_link"]
    rel: str = "next"


class PageNumber(CardModel):
    """Pages are numbered."""

    type: Literal["page_number"]
    page_param: str = "page"
    base_page: int = 1
    size_param: str | None = None
    size: int | None = None
    total_path: JmesPath | None = None
    """JMESPath of the number of pages; without it an empty page ends the stream."""


class Offset(CardModel):
    """Records are numbered."""

    type: Literal["offset"]
    limit: int = Field(gt=0)
    offset_param: str = "offset"
    limit_param: str = "limit"
    total_path: JmesPath | None = None
    """JMESPath of the number of records; without it a page shorter than the limit ends the stream."""


class JsonCursor(MayBeAbsent):
    """The answer carries a token for the next request."""

    type: Literal["cursor"]
    cursor_path: JmesPath
    """JMESPath of the token."""
    cursor_param: str = "cursor"
    """The request parameter that carries it."""
    cursor_body_path: str | None = None
    """Where it goes in the JSON body of a POST (names joined by dots), instead of a parameter."""


class HeaderCursor(MayBeAbsent):
    """A header of the answer carries a token for the next request."""

    type: Literal["header_cursor"]
    cursor_header: str
    cursor_param: str = "cursor"


Paginator = Annotated[
    SinglePage | JsonLink | HeaderLink | PageNumber | Offset | JsonCursor | HeaderCursor, Field(discriminator="type")
]


class Bearer(CardModel):
    """``Authorization: Bearer <token>``."""

    type: Literal["bearer"]
    token: SecretText


class Basic(CardModel):
    """User name and password."""

    type: Literal["http_basic"]
    username: SecretText
    password: SecretText


class ApiKey(CardModel):
    """A key in a header, in the query or in a cookie."""

    type: Literal["api_key"]
    name: str = "Authorization"
    api_key: SecretText
    location: Literal["header", "query", "cookie"] = "header"


class OAuth2ClientCredentials(CardModel):
    """A token bought with client id and secret, renewed before it ends and once after a 401."""

    type: Literal["oauth2_client_credentials"]
    access_token_url: Text
    """Below ``base_url``, or a whole URL."""
    client_id: SecretText
    client_secret: SecretText
    client_auth: Literal["body", "basic"] = "body"
    """Where id and secret go: into the form, or into HTTP basic authentication."""
    scope: str | None = None
    params: dict[str, str] = Field(default_factory=dict)
    """Further fields of the form, such as ``audience``."""


Auth = Annotated[Bearer | Basic | ApiKey | OAuth2ClientCredentials, Field(discriminator="type")]


class Parent(CardModel):
    """This stream asks once per record of another stream of the same fetch."""

    stream: str
    field: JmesPath
    """JMESPath into the parent's record."""
    placeholder: str
    """What ``{placeholder}`` in ``path`` or ``params`` stands for."""
    include: dict[str, str] = Field(default_factory=dict)
    """Parent's field -> field added to each child record."""


class RestStream(StreamCard):
    """One kind of record that an API gives."""

    path: str
    """Below ``base_url``, or a whole URL."""
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Text | int | float | bool] = Field(default_factory=dict)
    headers: dict[str, SecretText] = Field(default_factory=dict)
    json_body: dict[str, Any] | None = None
    records: JmesPath | None = None
    """JMESPath of the list of records; without it the answer itself (a list, or one object)."""
    format: Literal["json", "jsonl"] = "json"
    paginator: Paginator = SinglePage()
    max_pages: Number | None = None
    """Stop after this many pages, as a bound; the stream counts as complete. Without it, more than 100,000 pages of one
    run (of each parent, where there are parents) are an error, after which setting it lets the next fetch go on."""
    max_empty_pages: int = Field(default=100, ge=1)
    """Pages without records one after another, each naming a next one, after which the source counts as endless."""
    parent: Parent | None = None
    not_found: Literal["fail", "ignore"] = "fail"
    """What a 404 or 410 means: an error, or no (further) records."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.parent and self.cursor:
            raise ValueError(f"stream {self.name!r}: a stream with `parent` can't have a `cursor` of its own")
        if self.parent and "{" + self.parent.placeholder + "}" not in self.path + "".join(
            map(str, self.params.values())
        ):
            raise ValueError(
                f"stream {self.name!r}: {{{self.parent.placeholder}}} is neither in `path` nor in `params`, so that "
                "every parent would ask the same"
            )
        if self.json_body is not None and self.method == "GET":
            raise ValueError(f"stream {self.name!r}: `json_body` needs `method: POST`")
        if self.format == "jsonl" and self.records is not None:
            raise ValueError(f"stream {self.name!r}: in JSON Lines each line is a record: `records` says nothing")
        if self.format == "jsonl" and self.cursor and not self.cursor.param and self.write == "append":
            raise ValueError(
                f"stream {self.name!r}: old records would be appended again: with JSON Lines a `cursor` needs "
                "`param`, or `write: merge`"
            )
        return self


class RestApiSourceCard(HttpOptions, SourceCard):
    """A source that answers with JSON over HTTP."""

    base_url: Text
    auth: Auth | None = None
    headers: dict[str, SecretText] = Field(default_factory=dict)
    streams: list[RestStream] = Field(min_length=1)

    @model_validator(mode="after")
    def _parents_exist(self) -> Self:
        parents = {stream.name: stream.parent.stream for stream in self.streams if stream.parent}
        names = {stream.name for stream in self.streams}
        for name, parent in parents.items():
            if parent not in names:
                raise ValueError(f"stream {name!r}: its parent {parent!r} is not among the streams {sorted(names)}")
            line = [name]
            while line[-1] in parents:
                line.append(parents[line[-1]])
                if line[-1] in line[:-1]:
                    raise ValueError(f"streams are each other's parents: {' -> '.join(line)}")
        return self
