"""JSON to chunks: one document (an API's answer, a file) or one object a line. Numbers stay exact.

Documents are decoded whole, within a stated size; lines are streamed. What isn't JSON is refused line by line, a
document that isn't JSON as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import IO, Any

import msgspec

from dagster_project.ingest.chunk import Chunk, Refused
from dagster_project.ingest.errors import CardError, DamagedObjectError, DataRefusedError
from dagster_project.ingest.parse.encoding import SAMPLE, decode_counting, detect, utf8_pieces
from dagster_project.ingest.parse.records import RECORDS, NulBytes, chunks_of_records, records_to_chunk
from dagster_project.ingest.parse.text import cut

MAX_LINE = 64 * 1024 * 1024
_BLOCK = 1024 * 1024
SMALL_BYTES = 2 * 1024 * 1024
"""Lines decoded before they become columns, in bytes: dicts take seven times as much."""
_LONGEST_INT = 4000
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_UNDECODED = (msgspec.DecodeError, RecursionError, UnicodeError, InvalidOperation)
"""What the fast decoder raises: ``InvalidOperation`` for an exponent of twenty digits."""


def decode(data: bytes | str) -> Any:
    """Decode one JSON value without losing a digit.

    Lone surrogates, NaN, infinities and whole numbers of thousands of digits, which the fast decoder doesn't take, are
    taken too. A number whose exponent nothing can hold is its text.

    Raises:
        ValueError: It isn't JSON.
    """
    try:
        return _decoder.decode(data)
    except _UNDECODED as error:
        try:
            text = data if isinstance(data, str) else data.decode("utf-8")
            return json.loads(text, parse_float=_exact, parse_int=_whole)
        except (ValueError, RecursionError) as second:
            if isinstance(second, RecursionError):
                raise ValueError("nested too deeply") from None
            where = second if isinstance(second, json.JSONDecodeError) else error
            raise ValueError(str(where)) from None


def _exact(digits: str) -> Decimal | str:
    try:
        return Decimal(digits)
    except InvalidOperation:
        return digits


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < _LONGEST_INT else Decimal(digits)


def read_document(
    stream: IO[bytes],
    records: str | None,
    name: str,
    *,
    limit: int,
    first_ordinal: int = 1,
    nul_bytes: NulBytes = "replace",
    extra: dict[str, Any] | None = None,
    keep: Callable[[Any], bool] | None = None,
) -> Iterator[Chunk]:
    """Read one JSON document.

    Args:
        stream: The bytes, decompressed.
        records: JMESPath of the list of records; without it the document itself (a list, or one object).
        name: What errors call the document.
        limit: Largest size, in bytes.
        first_ordinal: Number of the first record.
        nul_bytes: What happens to texts with NUL characters or lone surrogates.
        extra: Fields added to each record.
        keep: Tells which records are wanted; all by default.

    Raises:
        DamagedObjectError: It is too large, or JSON that is cut, undecodable or nested too deeply.
        DataRefusedError: It isn't JSON, or has nothing at the path.
    """
    data = _read_whole(stream, limit, name)
    encoding = detect(data[:SAMPLE], whole=len(data) <= SAMPLE)
    if encoding.name != "utf-8" or encoding.bom:
        text, failed = decode_counting(data[encoding.bom :], encoding.name)
        if failed:
            raise DamagedObjectError(f"{name}: bytes that are not text in {encoding.name}; get the document again")
        data = text.encode("utf-8", "surrogatepass")
    if not data.strip():
        return
    try:
        document = decode(data)
    except ValueError as error:
        lines = _as_lines(data)
        if lines is None:
            # What begins as JSON was meant to be: it is the document that is damaged, not the card that is wrong.
            kind = DamagedObjectError if data.lstrip()[:1] in (b"{", b"[") else DataRefusedError
            raise kind(f"{name}: not a JSON document ({error}); it begins {data[:60]!r}") from None
        document = lines
    del data
    found = select(document, records, name)
    if extra:
        found = [{**record, **extra} if isinstance(record, dict) else record for record in found]
    if keep is None:
        yield from chunks_of_records(found, first_ordinal, nul_bytes=nul_bytes)
        return
    start = first_ordinal
    for wanted, run in groupby(found, keep):
        records_of_run = list(run)
        if wanted:
            yield from chunks_of_records(records_of_run, start, nul_bytes=nul_bytes)
        start += len(records_of_run)


def _as_lines(data: bytes) -> list[Any] | None:
    """Decode one JSON object a line, as some files named .json are; None where they aren't that."""
    try:
        values = _decoder.decode_lines(data)
    except _UNDECODED:
        return None
    return values if all(type(value) is dict for value in values) else None


def select(document: Any, path: str | None, name: str) -> list[Any]:
    """Give the records of a document.

    Raises:
        CardError: The path is no JMESPath.
        DataRefusedError: There is nothing at the path.
    """
    found = document
    if path is not None:
        import jmespath
        from jmespath.exceptions import JMESPathError

        try:
            found = jmespath.search(path, document)
        except JMESPathError as error:
            raise CardError(f"`records: {path}` is no JMESPath: {error}") from None
        if found is None:
            if isinstance(document, dict) and path in document:
                return []
            has = f"the keys {list(document)[:20]}" if isinstance(document, dict) else f"a {type(document).__name__}"
            raise DataRefusedError(f"{name}: nothing at `records: {path}`; the document has {has}")
    return found if isinstance(found, list) else [found]


def _read_whole(stream: IO[bytes], limit: int, name: str) -> bytes:
    parts = []
    size = 0
    while part := stream.read(_BLOCK):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise DamagedObjectError(
                f"{name}: a single JSON document of more than {limit / 1024**2:.0f} MiB can't be read in a stream: "
                "ask for JSON lines, or raise `max_document` if there is memory for it"
            )
    return b"".join(parts)


def read_lines(
    stream: IO[bytes], *, first_ordinal: int = 1, nul_bytes: NulBytes = "replace", extra: dict[str, Any] | None = None
) -> Iterator[Chunk]:
    """Read one JSON object a line, in bounded memory; what isn't JSON is refused with its line."""
    sample = b""
    while len(sample) < SAMPLE and (part := stream.read(SAMPLE - len(sample))):
        sample += part
    encoding = detect(sample, whole=len(sample) < SAMPLE)
    if encoding.name == "cp1252":
        # JSON is UTF-8 by its definition: broken lines are refused, not guessed at.
        encoding = detect(sample, "utf-8")
    lines = _Lines(first_ordinal, nul_bytes, extra or {})
    rest: list[bytes] = []
    size = 0
    for piece, _ in utf8_pieces(stream, encoding, sample, _BLOCK):
        end = piece.rfind(b"\n") + 1
        if not end:
            rest.append(piece)
            size += len(piece)
            if size > MAX_LINE:
                yield from lines.flush()
                yield lines.refuse("row_too_long", f"a line longer than {MAX_LINE // 1024**2} MiB", b"".join(rest))
                rest, size = [], -(2**62)
            continue
        if size < 0:  # the end of a line already refused
            start = piece.find(b"\n") + 1
            yield from lines.take(piece[start:end])
        else:
            rest.append(piece[:end])
            yield from lines.take(b"".join(rest))
        rest = [piece[end:]]
        size = len(rest[0])
    if size > 0:
        yield from lines.take(b"".join(rest))
    yield from lines.flush()


class _Lines:
    """Gathers decoded lines into chunks."""

    def __init__(self, ordinal: int, nul_bytes: NulBytes, extra: dict[str, Any]) -> None:
        self._ordinal = ordinal
        self._nul_bytes = nul_bytes
        self._extra = extra
        self._waiting: list[Any] = []
        self._bytes = 0

    def take(self, block: bytes) -> Iterator[Chunk]:
        """Decode whole lines."""
        if not block:
            return
        try:
            values = _decoder.decode_lines(block)
        except _UNDECODED:
            yield from self._one_by_one(block)
            return
        self._waiting.extend(values)
        self._bytes += len(block)
        while len(self._waiting) >= RECORDS:
            yield self._chunk(RECORDS)
        if self._bytes >= SMALL_BYTES:
            yield from self.flush()

    def _one_by_one(self, block: bytes) -> Iterator[Chunk]:
        # JSON's line ends are \n alone; others may stand inside texts.
        for line in block.split(b"\n"):
            if not line.strip():
                continue
            try:
                self._waiting.append(decode(line))
            except ValueError as error:
                yield from self.flush()
                yield self.refuse("not_json", f"not JSON: {error}", line)
        yield from self.flush()

    def refuse(self, code: str, message: str, line: bytes) -> Chunk:
        """Make a chunk of one refused line."""
        refused = Refused(self._ordinal, code, message, cut(line[: 256 * 1024].decode("utf-8", "replace").rstrip("\r")))
        self._ordinal += 1
        return Chunk({}, 0, refused.ordinal or 1, refused=[refused])

    def flush(self) -> Iterator[Chunk]:
        """Give what waits."""
        while self._waiting:
            yield self._chunk(RECORDS)

    def _chunk(self, rows: int) -> Chunk:
        records, self._waiting = self._waiting[:rows], self._waiting[rows:]
        self._bytes = 0
        if self._extra:
            records = [{**record, **self._extra} if type(record) is dict else record for record in records]
        chunk = records_to_chunk(records, self._ordinal, nul_bytes=self._nul_bytes)
        self._ordinal += len(records)
        return chunk
