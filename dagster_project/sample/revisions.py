"""What every revision of the world is: its date, and which works it has.

The cast is fixed for all revisions: most real works are there from revision 1, some are held back and appear in
revisions 2 to 6, some are sold by the shop alone. From revision 7 on new books are generated ones. Each revision from
the second withdraws one book. Sizes are closed formulas, so that a world of any scale starts at once and needs no
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property

from dagster_project.sample import invented
from dagster_project.sample.draws import draw, unit
from dagster_project.sample.works import Work, real_works

FIRST_DAY = datetime(2026, 1, 12, tzinfo=UTC)
HELD_BACK_PER_REVISION = 8
_LAST_REAL_REVISION = 6
_SHOP_ONLY = 24
_NEW_PER_REVISION_AFTER = 5
MAX_SCALE = 100_000
MAX_REVISION = 10_000


def day_of(revision: int) -> datetime:
    """Return the moment at which a revision begins: one a week."""
    return FIRST_DAY + timedelta(weeks=revision - 1)


class Cast:
    """Which works there are, from when on, for one scale and seed."""

    def __init__(self, scale: float, seed: int) -> None:
        if not 0 < scale <= MAX_SCALE:
            raise ValueError(f"scale is {scale}; expected a number above 0 and at most {MAX_SCALE}")
        self.scale = scale
        self.seed = seed
        ordinary = sorted((w for w in real_works() if w.rank is None), key=lambda w: draw("role", w.id))
        self._shop_only = {w.id for w in ordinary[:_SHOP_ONLY]}
        held_back = ordinary[_SHOP_ONLY : _SHOP_ONLY + HELD_BACK_PER_REVISION * (_LAST_REAL_REVISION - 1)]
        self._born = {w.id: 2 + place // HELD_BACK_PER_REVISION for place, w in enumerate(held_back)}
        # A scale below 1 thins the real works evenly; the same work stays or goes in every revision.
        self._works = {w.id: w for w in real_works() if self._stays(w)}
        first = sum(1 for n in self._works if n not in self._shop_only and n not in self._born)
        self.invented_at_first = max(0, round(first * (scale - 1)))

    def _stays(self, work: Work) -> bool:
        # The ten best known are in every world: one without a book has no ratings either.
        return self.scale >= 1 or unit(self.seed, "thin", work.id) < self.scale or (work.rank or 99) <= 10

    @cached_property
    def catalogued(self) -> list[Work]:
        """The real works that the catalogue has or will have, by id."""
        return [w for w in self._works.values() if w.id not in self._shop_only]

    @cached_property
    def shop_only(self) -> list[Work]:
        """The real works that only the shop knows, by id."""
        return [w for w in self._works.values() if w.id in self._shop_only]

    def born(self, work: Work) -> int:
        """Return the revision in which a real work appears."""
        return self._born.get(work.id, 1)

    def real(self, work_id: int) -> Work | None:
        """Return a real work of the catalogue by its id."""
        return None if work_id in self._shop_only else self._works.get(work_id)

    def invented_count(self, revision: int) -> int:
        """Return how many generated works there are in a revision."""
        growth = self.invented_at_first // 50
        later = max(0, revision - _LAST_REAL_REVISION) * _NEW_PER_REVISION_AFTER
        return self.invented_at_first + (revision - 1) * growth + later

    def invented_born(self, index: int) -> int:
        """Return the revision in which a generated work appears (counts grow with the revision: bisect)."""
        return first_where(1, MAX_REVISION, lambda r: self.invented_count(r) > index)

    def invent(self, index: int) -> Work:
        """Return the generated work `index`."""
        return invented.invent(index, self.seed)

    @cached_property
    def fault_order(self) -> list[int]:
        """Ids of ordinary works of revision 1 that the shop sells, in the order of who is in trouble or withdrawn."""
        eligible = [w for w in self.catalogued if w.rank is None and self.born(w) == 1 and self.sells(w)]
        return [w.id for w in sorted(eligible, key=lambda w: draw("fault", w.id))]

    @cached_property
    def _withdrawn(self) -> dict[int, int]:
        # The first places are for dead, slow and throttled pages; who is withdrawn has a page that worked before.
        return {work_id: revision for revision, work_id in enumerate(self.fault_order[20:], 2)}

    def withdrawn_in(self, work: Work) -> int | None:
        """Return the revision that withdraws a real work, or None."""
        return self._withdrawn.get(work.id)

    def sells(self, work: Work) -> bool:
        """Tell whether the shop sells a real work (at any time)."""
        if work.id in self._shop_only:
            return True
        return unit(self.seed, "sold", work.id) < (0.85 if work.rank else 0.55)


def first_where(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the smallest number in [low, high] for which `holds` is true (it must stay true above), else high + 1."""
    while low <= high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle - 1
        else:
            low = middle + 1
    return low
