"""Delimited text to chunks: streamed, every column as text, in bounded memory whatever the file's size.

Text is cut at records' ends and parsed by Arrow. What Arrow would read wrongly (quotes where none should be, quotes
never closed) goes record by record through ``lenient``. No row is lost: what can't be a row is refused with its line
and number. Types are found later, by the loader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from dagster_project.ingest.chunk import ROWS, Chunk, Refused
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.parse.csv_arrow import parse_region
from dagster_project.ingest.parse.csv_pieces import Piece, gathered, without_undecodable
from dagster_project.ingest.parse.dialect import Dialect, find_dialect
from dagster_project.ingest.parse.encoding import SAMPLE, decode_counting, detect, utf8_pieces
from dagster_project.ingest.parse.lenient import Record, line_end, parse_record, skip_lines
from dagster_project.ingest.parse.quoting import (
    MAX_LINES,
    Quotes,
    find_quotes,
    has_bare_return,
    last_boundary,
    longest_run,
)
from dagster_project.ingest.parse.shape import distinct_names
from dagster_project.ingest.parse.text import cut, refuse_rows, untyped, without_nul

if TYPE_CHECKING:
    from dagster_project.ingest.cards.file import FileStream

BLOCK = 2 * 1024 * 1024
"""Bytes read at a time; Arrow's threads share a block."""
MAX_RECORD = 64 * 1024 * 1024
SUSPICIOUS = 1024 * 1024
"""A record longer than this is looked at twice: its quote may never have been closed."""


def read_csv(stream: IO[bytes], card: FileStream, name: str, first_ordinal: int = 1) -> Iterator[Chunk]:
    """Read delimited text.

    Args:
        stream: The bytes, decompressed.
        card: The stream, for its dialect and its way with NUL characters.
        name: What errors call the file.
        first_ordinal: Number of the first row.

    Raises:
        DataRefusedError: The header can't be read.
    """
    reader = _Reader(card, name, first_ordinal)
    for chunk in gathered(reader.pieces(stream), lambda: reader.names, first_ordinal):
        if chunk.rows:
            arrays = {key: column.values for key, column in chunk.columns.items()}
            arrays, replaced, rows = without_nul(arrays)
            if rows:
                chunk.columns = untyped(arrays)
                if card.nul_bytes == "quarantine":
                    yield refuse_rows(chunk, rows, "nul", "has NUL characters")
                    continue
                chunk.replaced_nul = replaced
        yield chunk


class _Reader:
    """Reads one file; knows where it is."""

    def __init__(self, card: FileStream, name: str, first_ordinal: int) -> None:
        self.card = card
        self.name = name
        self.names: list[str] = []
        self.dialect = Dialect()
        self.ordinal = first_ordinal
        self._sure = True
        self._late: str | None = None
        self._failed = False

    def pieces(self, stream: IO[bytes]) -> Iterator[Piece]:
        """Read everything, in order."""
        sample = _read_up_to(stream, SAMPLE)
        encoding = detect(sample, self.card.csv.encoding, whole=len(sample) < SAMPLE)
        self._sure = encoding.sure
        start = sample[encoding.bom : SAMPLE - SAMPLE % 4]
        text, _ = decode_counting(start, encoding.name)
        self.dialect = find_dialect(text, self.card.csv)
        buffer = b""
        window = BLOCK
        started = False
        waiting: list[bytes] = []
        size = enough = 0
        for more, failed in utf8_pieces(stream, encoding, sample, BLOCK):
            self._failed = self._failed or failed > 0
            waiting.append(more)
            size += len(more)
            if size < enough:
                continue
            buffer = b"".join([buffer, *waiting]) if buffer or len(waiting) > 1 else more
            waiting.clear()
            size = enough = 0
            if not started:
                consumed = self._header(buffer, final=False)
                if consumed is None:
                    continue
                buffer, started = buffer[consumed:], True
            while True:
                done, window, pieces = self._some(buffer, window, final=False)
                yield from pieces
                buffer = buffer[done:] if done else buffer
                if not done:
                    break
            # A record that is longer than what was read so far: looked at after every block it would cost its square.
            enough = len(buffer) if len(buffer) > 2 * BLOCK else 0
        buffer = b"".join([buffer, *waiting])
        if not started:
            consumed = self._header(buffer, final=True)
            buffer = buffer[consumed or 0 :]
        while buffer:
            done, window, pieces = self._some(buffer, window, final=True)
            yield from pieces
            buffer = buffer[done:]

    # -- header

    def _header(self, buffer: bytes, *, final: bool) -> int | None:
        """Find the columns' names.

        Returns:
            The bytes that the header takes; None where it isn't all there yet.
        """
        stated = self.card.csv
        text = buffer.decode("utf-8", "replace" if final else "ignore")
        if not final and len(buffer) < MAX_RECORD and len(text) < 4096:
            return None
        newline = self.dialect.newline
        position = skip_lines(text, 0, stated.skip_lines, newline)
        while True:
            record = parse_record(text, position, self.dialect)
            if not record.blank or record.end >= len(text):
                break
            position = record.end
        if record.end >= len(text) and not final and len(buffer) < MAX_RECORD:
            return None
        if record.blank:
            self.names = list(stated.names)
            return len(buffer)
        if record.open and stated.header:
            raise DataRefusedError(
                f"{self.name}: the header's quotes are never closed: {text[position : position + 80]!r}; "
                "state the dialect in the card (`csv: {quote: ..., header: ...}`)"
            )
        if not stated.header:
            self.names = list(stated.names) or [f"column_{number + 1}" for number in range(len(record.fields))]
            return len(text[:position].encode())
        if stated.names and len(stated.names) != len(record.fields):
            raise DataRefusedError(
                f"{self.name}: the card gives {len(stated.names)} `csv.names`, "
                f"the header has {len(record.fields)} columns"
            )
        self.names = list(stated.names) or distinct_names([value or "" for value in record.fields])
        return len(text[: record.end].encode())

    # -- rows

    def _some(self, buffer: bytes, window: int, *, final: bool) -> tuple[int, int, list[Piece]]:
        """Read some records from the buffer's start.

        Returns:
            The bytes taken (0: more are needed), how much to look at next time, and the rows.
        """
        view = buffer if len(buffer) <= window else buffer[:window]
        whole = final and len(view) == len(buffer)
        quotes: Quotes | None = None
        if self.dialect.skip_space:
            quotes = Quotes([], 0)
        elif self.dialect.quote and self.dialect.quote.encode() in view:
            quotes = find_quotes(view, self.dialect)
        odd = quotes.odd if quotes else None
        if quotes is not None and odd is None:
            odd = self._never_closed(view, quotes, whole=whole)
        limit = len(view) if odd is None else odd
        if whole and odd is None:
            end = len(view)
        else:
            end = last_boundary(view, limit, self.dialect, quotes if odd != 0 else None) if limit else 0
        if end:
            return end, min(window * 2, BLOCK), self._fast(view[:end], quotes)
        if odd is None:
            if len(view) < len(buffer):
                return self._some(buffer, min(window * 4, len(buffer)), final=final)
            if len(buffer) > MAX_RECORD:
                return self._too_long(buffer, window)
            return 0, max(window, len(buffer) + BLOCK), []
        return self._careful(buffer, odd, window, final=final)

    def _never_closed(self, view: bytes, quotes: Quotes, *, whole: bool) -> int | None:
        """Find a quote that seems never to be closed, though no other quote contradicts it."""
        if len(quotes.positions) % 2:
            opened = int(quotes.positions[-1])
            if whole:
                return opened
            if len(view) - opened > SUSPICIOUS and self._next_line_is_a_record(view, opened):
                return opened
        newline = self.dialect.newline
        if view.count(newline.encode()) > MAX_LINES:
            lines, opened = longest_run(view, quotes, newline)
            if lines > MAX_LINES and self._next_line_is_a_record(view, opened):
                return opened
        return None

    def _next_line_is_a_record(self, view: bytes, position: int) -> bool:
        """Tell whether the line after a position would be a whole record by itself."""
        start = view.find(self.dialect.newline.encode(), position) + 1
        if not start:
            return False
        text = view[start : start + SUSPICIOUS].decode("utf-8", "replace")
        return self._is_record(text, 0)

    def _is_record(self, text: str, position: int) -> bool:
        end, _ = line_end(text, position, self.dialect.newline)
        record = parse_record(text[position:end], 0, self.dialect)
        return len(record.fields) == len(self.names) and not (record.open or record.stray or record.blank)

    def _too_long(self, buffer: bytes, window: int) -> tuple[int, int, list[Piece]]:
        """Refuse a record that is longer than a record may be."""
        end = buffer.find(self.dialect.newline.encode())
        taken = end + 1 if end >= 0 else len(buffer)
        line = buffer[: 64 * 1024].decode("utf-8", "replace")
        message = f"a row longer than {MAX_RECORD // 1024**2} MiB: {self.name} is not such a file, or a quote is open"
        refused = Refused(self.ordinal, "row_too_long", message, cut(line))
        self.ordinal += 1
        return taken, window, [Piece([], 0, refused=[refused])]

    def _fast(self, region: bytes, quotes: Quotes | None) -> list[Piece]:
        """Parse whole records whose quotes are well."""
        torn = self.dialect.newline == "\n" and has_bare_return(region, quotes)
        region, failed = self._utf8(region)
        if not self.names:
            return []
        if torn:  # Arrow would end the row there
            return self._slow(region.decode("utf-8"), whole=True, failed=failed)[1]
        quoted = quotes is not None
        table, invalid = parse_region(region, len(self.names), self.dialect, quoted=quoted, threads=True)
        if invalid:
            if any("\n" in text or "\r" in text.rstrip("\r") for _, text in invalid):
                return self._slow(region.decode("utf-8"), whole=True, failed=failed)[1]
            table, invalid = parse_region(region, len(self.names), self.dialect, quoted=quoted, threads=False)
        base = self.ordinal
        refused = [
            Refused(base + (number or 1) - 1, "ragged_row", self._ragged(text), cut(text)) for number, text in invalid
        ]
        self.ordinal += table.num_rows + len(refused)
        ordinals: list[int] | None = None
        if refused:
            gone = {refusal.ordinal for refusal in refused}
            ordinals = [ordinal for ordinal in range(base, self.ordinal) if ordinal not in gone]
        pieces = []
        at = 0
        for batch in table.to_batches(max_chunksize=ROWS):
            some = None if ordinals is None else ordinals[at : at + batch.num_rows]
            pieces.append(Piece(batch.columns, batch.num_rows, some))
            at += batch.num_rows
        if refused:
            pieces = pieces or [Piece([], 0)]
            if len(pieces) > 1:  # refusals are between the rows: one piece keeps their numbers true
                whole = table.combine_chunks()
                pieces = [Piece([column.chunk(0) for column in whole.columns], table.num_rows, ordinals)]
            pieces[0].refused = refused
        return without_undecodable(pieces, self.ordinal, self.dialect.delimiter) if failed else pieces

    def _ragged(self, text: str) -> str:
        return self._ragged_by(len(parse_record(text, 0, self.dialect).fields))

    def _ragged_by(self, found: int) -> str:
        return f"{found} fields where the header has {len(self.names)}"

    def _utf8(self, region: bytes) -> tuple[bytes, bool]:
        """Make sure that a region of whole records is UTF-8.

        Returns:
            The region as UTF-8, and whether places in it couldn't be decoded.
        """
        failed, self._failed = self._failed, False
        if self._late is None:
            if region.isascii():
                return region, failed
            try:
                region.decode("utf-8")
            except UnicodeDecodeError:
                if self._sure:
                    text, count = decode_counting(region, "utf-8")
                    return text.encode(), count > 0
                # So far everything was ASCII, which all candidates share: nothing has been read wrongly yet.
                self._late = detect(region, whole=True).name
            else:
                self._sure = True
                return region, failed
        text, count = decode_counting(region, self._late)
        return text.encode("utf-8", "replace"), count > 0

    # -- the careful way

    def _careful(self, buffer: bytes, odd: int, window: int, *, final: bool) -> tuple[int, int, list[Piece]]:
        """Read the records up to and with the one that has a quote where none should be."""
        # Troubles come in crowds: the more there were, the more is read this way before looking for order again.
        want = odd + 1 + (4096 if window >= BLOCK else min(4096 * 16, window))
        region = buffer[: max(want * 2, SUSPICIOUS)]
        whole = final and len(region) == len(buffer)
        end = len(region) if whole else region.rfind(self.dialect.newline.encode()) + 1
        if not end:
            if len(buffer) > MAX_RECORD:
                return self._too_long(buffer, window)
            if len(region) < len(buffer):
                region, end = buffer, len(buffer)
            else:
                return 0, max(window, BLOCK), []
        enough_bytes = len(buffer) >= SUSPICIOUS * 2 or final
        region, failed = self._utf8(region[:end])
        text = region.decode("utf-8")
        taken, pieces = self._slow(text, whole=whole or enough_bytes, until=want, failed=failed)
        if self._late is not None or failed:
            done = len(buffer[:end]) if taken >= len(text) else self._source_length(buffer[:end], text[taken:])
        else:
            done = len(text[:taken].encode())
        return done, 64 * 1024, pieces

    def _source_length(self, source: bytes, rest: str) -> int:
        """Give how many bytes of the source come before the text's rest, counted in lines, which decoding keeps."""
        lines = rest.count("\n") + (0 if rest.endswith("\n") else 1)
        position = len(source) - (1 if rest.endswith("\n") else 0)
        for _ in range(lines):
            position = source.rfind(b"\n", 0, position)
            if position < 0:
                return 0
        return position + 1

    def _slow(
        self, text: str, *, whole: bool, until: int | None = None, failed: bool = False
    ) -> tuple[int, list[Piece]]:
        """Read records one at a time.

        Args:
            text: Begins at a record's start.
            whole: Whether no more text can come that would close an open quote.
            until: Stop at the first record's end past this position.
            failed: Whether some bytes couldn't be decoded.

        Returns:
            The characters taken and the rows.
        """
        rows: list[list[str | None]] = []
        ordinals: list[int] = []
        refused: list[Refused] = []
        position = rejoined = 0
        size = len(text)
        while position < size and (until is None or position < until):
            record = parse_record(text, position, self.dialect)
            if record.open and not whole:
                break
            if position >= rejoined and record.torn(text) and self.dialect.newline == "\n":
                rejoined, joined = self._rejoined(text, position, record)
                if joined is not None and (joined.open or joined.stray or len(joined.fields) != len(self.names)):
                    message = f"a carriage return inside the row, and {self._ragged_by(len(joined.fields))}"
                    refused.append(Refused(self.ordinal, "ragged_row", message, cut(text[position:rejoined])))
                    self.ordinal += 1
                    position = rejoined
                    continue
                record = joined or record
            if record.blank:
                position = record.end
                continue
            verdict = self._verdict(text, position, record)
            if verdict is not None and (other := self._escaped(text, position)) is not None:
                record, verdict = other, None
            if verdict is None:
                rows.append(record.fields)
                ordinals.append(self.ordinal)
                position = record.end
            else:
                code, message, end = verdict
                refused.append(Refused(self.ordinal, code, message, cut(text[position:end].rstrip("\r\n"))))
                position = end
            self.ordinal += 1
        if not rows and not refused:
            return position, []
        columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)] if rows else []
        piece = Piece(columns, len(rows), ordinals, refused)
        if failed:
            return position, without_undecodable([piece], self.ordinal, self.dialect.delimiter)
        return position, [piece]

    def _rejoined(self, text: str, position: int, record: Record) -> tuple[int, Record | None]:
        """Look at a record that a carriage return ends in a file whose lines end otherwise.

        Returns:
            Where the line ends, and the line as one record; None where its parts are whole records each.
        """
        _, end = line_end(text, record.end)
        # Where lines end in \r\n a \r alone is a value's; where they end in \n it may end the lines of another file.
        at, fits = record.end, len(record.fields) == len(self.names) and text[end - 2 : end] != "\r\n"
        while fits and at < end:
            part = parse_record(text, at, self.dialect)
            fits = len(part.fields) == len(self.names) and not (part.open or part.stray)
            at = part.end
        if fits:
            return end, None
        mark = next(sign for sign in map(chr, range(0xE000, 0xF8FF)) if sign not in text[position:end])
        whole = parse_record(re.sub(r"\r(?!\n)", mark, text[position:end]), 0, self.dialect)
        whole.fields = [None if value is None else value.replace(mark, "\r") for value in whole.fields]
        whole.stray = whole.stray or whole.end < end - position
        whole.end = end
        return end, whole

    def _escaped(self, text: str, position: int) -> Record | None:
        """Read a line with backslashes before quotes, which the first bytes of the file didn't show; None if no use."""
        end, next_line = line_end(text, position, self.dialect.newline)
        if self.dialect.escape or self.card.csv.escape or "\\" not in text[position:end]:
            return None
        record = parse_record(text[position:end], 0, replace(self.dialect, escape="\\"))
        if record.open or record.stray or len(record.fields) != len(self.names):
            return None
        record.end = next_line
        return record

    def _verdict(self, text: str, position: int, record: Record) -> tuple[str, str, int] | None:
        """Say why a record is refused: code, message and where reading goes on; None if it is fine."""
        fits = len(record.fields) == len(self.names)
        _, next_line = line_end(text, position, self.dialect.newline)
        if record.lines == 1 and not record.open:
            return None if fits else ("ragged_row", self._ragged(text[position : record.end]), record.end)
        if fits and not record.open and not record.stray and record.lines <= MAX_LINES:
            return None
        message = "a quote is opened and not closed where the row ends; the following lines are read by themselves"
        if record.open or not fits:
            return "unclosed_quote", message, next_line
        at = next_line
        for _ in range(50):
            if at >= record.end:
                return None
            if self._is_record(text, at):
                return "unclosed_quote", message, next_line
            _, at = line_end(text, at, self.dialect.newline)
        return "unclosed_quote", message, next_line


def _read_up_to(stream: IO[bytes], size: int) -> bytes:
    """Read until so many bytes are there, or the end."""
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
