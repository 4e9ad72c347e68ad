"""Covers drawn by code: a PNG of 200 x 300 with a pattern, title and author; the same bytes for the same book.

No image library: a palette image of 4 bits per pixel, compressed with zlib. The letters are a 5 x 7 bitmap font.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

from dagster_project.sample.draws import Draws
from dagster_project.sample.spelling import without_accents

WIDTH, HEIGHT = 200, 300
_PAPER, _INK, _DARK, _MIDDLE, _LIGHT = range(5)
# Five columns of seven bits per letter, the lowest bit on top.
_FONT = {
    "A": "7e1111117e", "B": "7f49494936", "C": "3e41414122", "D": "7f4141221c", "E": "7f49494941", "F": "7f09090901",
    "G": "3e4149497a", "H": "7f0808087f", "I": "00417f4100", "J": "2040413f01", "K": "7f08142241", "L": "7f40404040",
    "M": "7f020c027f", "N": "7f0408107f", "O": "3e4141413e", "P": "7f09090906", "Q": "3e4151215e", "R": "7f09192946",
    "S": "4649494931", "T": "01017f0101", "U": "3f4040403f", "V": "1f2040201f", "W": "3f4038403f", "X": "6314081463",
    "Y": "0708700807", "Z": "6151494543", "0": "3e5149453e", "1": "00427f4000", "2": "4261514946", "3": "2141454b31",
    "4": "1814127f10", "5": "2745454539", "6": "3c4a494930", "7": "0171090503", "8": "3649494936", "9": "064949291e",
    ".": "0060600000", ",": "0050300000", "'": "0005030000", "-": "0808080808", ":": "0036360000", "&": "3649552250",
    "!": "00005f0000", "?": "0201510906", "(": "001c224100", ")": "0041221c00",
}  # fmt: skip
_GLYPHS = {letter: bytes.fromhex(columns) for letter, columns in _FONT.items()}
# Paper, ink, dark, middle, light: one palette per family of categories.
_PALETTES = (
    ("f7f1e3", "1d1b26", "2f4858", "33658a", "86bbd8"), ("fbf3e8", "2b1510", "7a2e1f", "b5532a", "e9a15b"),
    ("f1f5ec", "16241a", "2d4a35", "56804f", "a9c48c"), ("f6f0f4", "251527", "4f2d5a", "86518f", "c9a3cf"),
    ("f4f4f1", "191919", "3b3b3b", "7a7466", "c7bfa8"), ("eef5f5", "0f2626", "145c5c", "2f9090", "8fd0c6"),
    ("fdf6dd", "2a2205", "6b5307", "b98a0b", "ecc94b"), ("fbeeee", "2b0d12", "7d1128", "b8304f", "e88a9a"),
)  # fmt: skip


@lru_cache(maxsize=512)
def cover(number: int, title: str, author: str, category_number: int) -> bytes:
    """Return the PNG of a book's cover."""
    draws = Draws("cover", number)
    palette = _PALETTES[(category_number + draws.below(2)) % len(_PALETTES)]
    rows = [bytearray([_PAPER]) * WIDTH for _ in range(HEIGHT)]
    _pattern(rows, draws)
    _panel(rows, 58, 96)
    lines = _wrap(title, 14)[:5]
    top = 106 - 9 * len(lines) + (8 if len(lines) == 1 else 0)
    for place, line in enumerate(lines):
        _write(rows, line, top + 18 * place, 2)
    for place, line in enumerate(_wrap(author, 28)[:2]):
        _write(rows, line, 264 + 12 * place, 1)
    return _png(rows, palette)


def _pattern(rows: list[bytearray], draws: Draws) -> None:
    """Fill the page above the author's line with one of five patterns."""
    kind, size, slant = draws.below(5), 12 + draws.below(20), 1 + draws.below(3)
    centre_x, centre_y = 40 + draws.below(120), 150 + draws.below(80)
    for y in range(250):
        row = rows[y]
        for x in range(WIDTH):
            if kind == 0:
                place = (x * slant + y) // size
            elif kind == 1:
                place = x // size + y // size
            elif kind == 2:
                place = ((x - centre_x) ** 2 + (y - centre_y) ** 2) // (size * 140)
            elif kind == 3:
                place = (abs(x - 100) * slant + y) // size
            else:
                place = (y * y // 300 + x // 9 * slant) // size
            row[x] = _DARK + place % 3


def _panel(rows: list[bytearray], top: int, height: int) -> None:
    for y in range(top, top + height):
        edge = y in (top, top + 1, top + height - 2, top + height - 1)
        rows[y][10:190] = bytes([_INK]) * 180 if edge else bytes([_INK] * 2 + [_PAPER] * 176 + [_INK] * 2)


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in without_accents(text).upper().split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word[:width])
    return lines


def _write(rows: list[bytearray], text: str, top: int, scale: int) -> None:
    """Draw a line of text in the middle of the page; letters without a glyph leave a space."""
    left = max(0, (WIDTH - len(text) * 6 * scale) // 2)
    for letter in text:
        for column, bits in enumerate(_GLYPHS.get(letter, b"")):
            start = left + column * scale
            for y in range(7 * scale):
                if bits >> (y // scale) & 1 and start + scale <= WIDTH and top + y < HEIGHT:
                    rows[top + y][start : start + scale] = bytes([_INK]) * scale
        left += 6 * scale


def _png(rows: list[bytearray], palette: tuple[str, ...]) -> bytes:
    # Filter byte 0, then two pixels per byte (PNG colour type 3, depth 4).
    packed = b"".join(b"\0" + bytes(a << 4 | b for a, b in zip(row[::2], row[1::2], strict=True)) for row in rows)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 4, 3, 0, 0, 0)),
        (b"PLTE", bytes.fromhex("".join(palette))),
        (b"tEXt", b"Comment\0Drawn by the sample world"),
        (b"IDAT", zlib.compress(packed, 6)),
        (b"IEND", b""),
    )
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
