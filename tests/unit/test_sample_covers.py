"""Covers: PNG files that decode to the stated size, one picture per book, the same bytes each time."""

from __future__ import annotations

import struct
import zlib

from dagster_project.sample.covers import HEIGHT, WIDTH, cover
from dagster_project.sample.world import World


def _chunks(data: bytes) -> dict[bytes, bytes]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        place += 12 + length
    return chunks


def test_a_cover_is_a_whole_png_of_the_stated_size() -> None:
    data = cover(7, "The Strange Case of Dr. Jekyll and Mr. Hyde", "Robert Louis Stevenson", 3)
    chunks = _chunks(data)
    assert list(chunks)[-1] == b"IEND"
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (WIDTH, HEIGHT, 4, 3, 0, 0, 0)
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == HEIGHT * (1 + WIDTH // 2)
    assert len(set(pixels)) > 4
    assert len(data) < 8000


def test_covers_are_the_same_each_time_and_differ_between_books() -> None:
    products = World(1).shop.slice(0, 40)
    pictures = {}
    for p in products:
        cover.cache_clear()
        pictures[p.number] = cover(p.number, p.title, p.author, 0)
    cover.cache_clear()
    assert all(cover(p.number, p.title, p.author, 0) == pictures[p.number] for p in products)
    assert len(set(pictures.values())) == len(products)


def test_odd_titles_are_drawn_too() -> None:
    for title in ("", "価格", "W" * 500, "ß & Œ — “quoted”"):
        _chunks(cover(1, title, title, 1))
