"""Amounts of memory as cards write them: ``512MiB``, ``3GiB``, ``4g``.

``execution.compute`` reads the same words out of an op's tag; a test keeps the two of one mind, because nothing of this
package may be imported there, nor the other way round.
"""

from __future__ import annotations

import re

SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgG]i?)?[bB]?\s*$", re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}
LEAST_MEMORY = 256 * 2**20
"""Below this a step dies while it imports."""


def parse_size(value: object) -> object:
    """Turn a size's text into bytes; leave numbers to the caller's type check. ``4g`` means 4 GiB, as in Docker.

    Raises:
        ValueError: The text is no size.
    """
    if not isinstance(value, str):
        return value
    match = SIZE.match(value)
    if match is None:
        raise ValueError(f"a size is a number with MiB or GiB, such as 512MiB or 3GiB: got {value!r}")
    return int(float(match.group(1)) * 1024 ** _POWERS[(match.group(2) or "")[:1].lower()])
