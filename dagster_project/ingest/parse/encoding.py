"""Which encoding text is in, and turning it into UTF-8 piece by piece.

A byte-order mark decides; then UTF-8 where the bytes are valid; only then a guess, with Windows-1252 where the guess
isn't sure. Bytes that can't be decoded become U+FFFD and are counted, so that the caller can refuse their rows.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from dagster_project.ingest.errors import CardError

SAMPLE = 1024 * 1024
"""Bytes looked at to find an encoding."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TRUSTED = {
    "cp1250", "iso8859_2", "cp1251", "koi8_r", "cp866", "iso8859_5", "cp1253", "iso8859_7", "cp1254", "iso8859_9",
    "cp1255", "iso8859_8", "cp1256", "iso8859_6", "cp1257", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949", "big5",
    "gb18030", "gbk", "gb2312", "utf_8",
}  # fmt: skip

_failures = threading.local()


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Replace what can't be decoded by U+FFFD, and count it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _failures.count = getattr(_failures, "count", 0) + 1
    return "\ufffd", error.end


def _c1(error: UnicodeError) -> tuple[str, int]:
    """Read the five bytes that Windows-1252 leaves undefined as browsers do: as control characters."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(map(chr, error.object[error.start : error.end])), error.end


codecs.register_error("bindery_mark", _mark)
codecs.register_error("bindery_c1", _c1)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes are to be read as text."""

    name: str
    bom: int = 0
    """Bytes of a byte-order mark, to be skipped."""
    sure: bool = True
    """False where only ASCII was seen, so that what comes later may still turn out to be something else."""

    @property
    def errors(self) -> str:
        """Name the error handler that suits the encoding."""
        return "bindery_c1" if self.name == "cp1252" else "bindery_mark"


def detect(sample: bytes, declared: str | None = None, *, whole: bool = False) -> Encoding:
    """Find the encoding of text.

    Args:
        sample: The first bytes.
        declared: What the card says; a byte-order mark that agrees is skipped.
        whole: Whether the sample is everything.

    Raises:
        CardError: The declared encoding doesn't exist.
    """
    if declared is not None:
        try:
            name = codecs.lookup(declared).name
        except LookupError:
            raise CardError(
                f"`csv.encoding: {declared}` is no encoding: "
                "use a name such as utf-8, cp1252, latin-1, utf-16, shift_jis"
            ) from None
        name = {"utf-8-sig": "utf-8"}.get(name, name)
        for bom, found in _BOMS:
            if sample.startswith(bom) and (found == name or found.rsplit("-", 1)[0] == name):
                return Encoding(found, len(bom))
        if name in {"utf-16", "utf-32"}:
            name += "-be" if sample[:1] == b"\0" else "-le"
        return Encoding(name)
    for bom, name in _BOMS:
        if sample.startswith(bom):
            return Encoding(name, len(bom))
    if sample.isascii() and b"\0" not in sample:
        return Encoding("utf-8", sure=False)
    if wide := _wide(sample):
        return Encoding(wide)
    if _mostly_utf8(sample, whole):
        return Encoding("utf-8", sure=not sample.isascii())
    return Encoding(_guess(sample))


def _wide(sample: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 without a mark by where their zero bytes are."""
    head = sample[: 4096 - 4096 % 4]
    quarter = max(len(head) // 4, 1)
    zeros = [head[offset::4].count(0) / quarter for offset in range(4)]
    if len(head) < 8:
        return None
    if min(zeros[1:]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[:3]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    if even > 0.4 and odd < 0.1:
        return "utf-16-be"
    return None


def _mostly_utf8(sample: bytes, whole: bool) -> bool:
    """Tell whether bytes are UTF-8, perhaps with a few broken places."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        decoder.decode(sample, whole)
    except UnicodeDecodeError:
        text, broken = decode_counting(sample, "utf-8")
        good = sum(1 for character in text if character > "\x7f") - broken
        return good > 10 * broken
    return True


def decode_counting(data: bytes, name: str) -> tuple[str, int]:
    """Decode bytes, replacing what can't be; also give how often that was necessary."""
    _failures.count = 0
    text = data.decode(name, Encoding(name).errors)
    return text, _failures.count


def _guess(sample: bytes) -> str:
    """Guess the encoding of bytes that aren't UTF-8."""
    from charset_normalizer import from_bytes

    # Lines of ASCII say nothing; leaving them out makes the guess faster and better.
    telling: list[bytes] = []
    size = 0
    for line in sample.splitlines(keepends=True):
        if not line.isascii():
            telling.append(line)
            size += len(line)
            if size > 32 * 1024:
                break
    found = from_bytes(b"".join(telling), steps=5, chunk_size=1024)
    best = found.best()
    if best is None or best.encoding not in _TRUSTED or best.coherence < 0.2:
        return "cp1252"
    western = next((each for each in found if each.encoding == "cp1252"), None)
    if western is not None and western.chaos <= best.chaos + 0.01 and western.coherence >= best.coherence - 0.005:
        return "cp1252"  # reads as well, and is the likelier by far
    return codecs.lookup(best.encoding).name


def utf8_pieces(stream: IO[bytes], encoding: Encoding, first: bytes, size: int) -> Iterator[tuple[bytes, int]]:
    """Give a stream's text as UTF-8, piece by piece.

    Args:
        stream: Where reading goes on after ``first``.
        encoding: How the bytes are to be read. UTF-8 is passed through unchecked.
        first: Bytes already read, byte-order mark included.
        size: Bytes of a piece, about.

    Yields:
        A piece, and how many places in it couldn't be decoded.
    """
    data = first[encoding.bom :]
    if encoding.name == "utf-8":
        while data:
            yield data, 0
            data = stream.read(size)
        return
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    while True:
        _failures.count = 0
        text = decoder.decode(data, not data)
        failed = _failures.count
        if text:
            # A decoder may let lone surrogates through; UTF-8 doesn't have them.
            yield text.encode("utf-8", "replace"), failed
        if not data:
            return
        data = stream.read(size)
