"""Deterministic pseudo-random draws: the same arguments give the same number on every machine and Python version.

Everything that is generated in the sample world (prices, stock, ratings, spelling) comes from here, so that two
builds of the world are equal byte for byte. `random` is not used: only its `random()` is promised to be stable
between versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

_T = TypeVar("_T")
_MASK = (1 << 64) - 1


def draw(*parts: object) -> int:
    """Return a 64-bit number that depends on nothing but `parts`."""
    return int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


def unit(*parts: object) -> float:
    """Return a number in [0, 1) that depends on nothing but `parts`."""
    return draw(*parts) / 2**64


class Draws:
    """A sequence of draws that starts from `parts` (splitmix64: one hash, then integer arithmetic)."""

    def __init__(self, *parts: object) -> None:
        self._state = draw(*parts)

    def next(self) -> int:
        """Return the next 64-bit number."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def unit(self) -> float:
        """Return the next number in [0, 1)."""
        return self.next() / 2**64

    def below(self, bound: int) -> int:
        """Return the next integer in [0, bound)."""
        return self.next() % bound

    def pick(self, among: Sequence[_T]) -> _T:
        """Return one of `among`."""
        return among[self.next() % len(among)]

    def normal(self) -> float:
        """Return a draw near N(0, 1): four uniforms (Irwin-Hall), so that no libm decides a rating."""
        return (self.unit() + self.unit() + self.unit() + self.unit() - 2.0) * 1.7320508075688772
