"""Keys that a load brings more than once, found here while Postgres is busy with something else.

Only for keys of one or two whole numbers, and up to a bound of memory: sorting a million of them takes 30 ms here, and
300 to 600 ms in Postgres. Of other keys nothing is known, and Postgres finds out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MOST_ROWS: Final = 2_000_000
"""Rows whose keys are kept, 8 bytes each."""
MOST_REPEATED: Final = 50_000
"""Repeated keys that are worth telling Postgres; of more it finds them faster itself."""
_HALF: Final = 32


class KeyWatch:
    """Sees the key of every row that is sent."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._parts: list[npt.NDArray[np.uint64]] = []
        self._rows = 0
        self._knows = columns in (1, 2)

    def see(self, keys: list[pa.Array], types: list[str]) -> None:
        """Take note of the keys of a block's rows."""
        if not self._knows:
            return
        self._rows += len(keys[0])
        if self._rows > MOST_ROWS or any(data_type != "bigint" for data_type in types):
            self._give_up()
            return
        try:
            numbers = [pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False) for values in keys]
        except pa.ArrowInvalid:  # written in a way that only Postgres reads, such as "+5"
            self._give_up()
            return
        if len(numbers) == 1:
            self._parts.append(numbers[0].view(np.uint64))
        elif len(numbers[0]) and not any(bool((each < 0).any() or (each >> _HALF).any()) for each in numbers):
            self._parts.append((numbers[0].view(np.uint64) << np.uint64(_HALF)) | numbers[1].view(np.uint64))
        elif len(numbers[0]):
            self._give_up()

    def _give_up(self) -> None:
        self._knows = False
        self._parts.clear()

    def repeated(self) -> list[tuple[int, ...]] | None:
        """Give the keys that came more than once; None where that isn't known."""
        if not self._knows:
            return None
        if not self._parts:
            return []
        keys = np.concatenate(self._parts)
        self._parts.clear()
        keys.sort()
        twice = np.unique(keys[1:][keys[1:] == keys[:-1]])
        if len(twice) > MOST_REPEATED:
            return None
        if self._columns == 1:
            return [(int(key),) for key in twice.view(np.int64)]
        low = np.uint64(2**_HALF - 1)
        return [(int(key >> np.uint64(_HALF)), int(key & low)) for key in twice]
