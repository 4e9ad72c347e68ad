"""The readers' ratings: generated, with taste.

A reader has two favourite shelves, takes most books from them and likes them better; well-known books are read more. So
So a recommender has something to learn. A reader's ratings are computed from the reader's number alone.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from dagster_project.sample.draws import Draws, draw, unit
from dagster_project.sample.invented import FIRST_ID, category_of
from dagster_project.sample.revisions import FIRST_DAY, day_of
from dagster_project.sample.works import CATEGORIES, Work
from dagster_project.sample.world import World

USERS = 300
HAND_ENTERING_USERS = 8
_FIRST_RATING = datetime(2024, 1, 1, tzinfo=UTC)
_BEFORE_ALL = datetime(2023, 1, 1, tzinfo=UTC)


class Rating(NamedTuple):
    """One row of a ratings file."""

    user_id: int
    book_id: int
    rating: int
    rated_at: datetime


class Readers:
    """The readers of a world; readers 1 to `count` rate, some more write their ratings by hand."""

    def __init__(self, world: World) -> None:
        self._cast = world.cast
        self._seed = world.seed
        self.count = max(20, round(USERS * world.scale))
        # What can be rated from the start; the sums are for drawing a book by its popularity.
        self._works = [w for w in world.cast.catalogued if world.cast.born(w) == 1]
        self._shelves = {name: [w for w in self._works if w.category == name] for name in CATEGORIES}
        self._sums = {name: list(accumulate(map(_popularity, shelf))) for name, shelf in self._shelves.items()}
        self._all_sums = list(accumulate(map(_popularity, self._works)))
        self._newborn: defaultdict[int, list[int]] = defaultdict(list)
        for work in world.cast.catalogued:
            self._newborn[world.cast.born(work)].append(work.id)

    def at_first(self, user_id: int) -> list[Rating]:
        """Return the ratings that a reader gave before revision 1, each book once."""
        draws = Draws(self._seed, "reader", user_id)
        favourites = (draws.pick(CATEGORIES), draws.pick(CATEGORIES))
        mood = draws.normal() * 0.35
        ratings: dict[int, Rating] = {}
        for _ in range(6 + draws.below(18)):
            work_id, category = self._choose(draws, favourites)
            taste = 4.15 if category in favourites else 2.95
            quality = (unit(self._seed, "quality", work_id) - 0.5) * 1.2
            score = max(1, min(5, round(taste + mood + quality + draws.normal() * 0.7)))
            when = _FIRST_RATING + timedelta(seconds=draws.below(int((FIRST_DAY - _FIRST_RATING).total_seconds())))
            ratings.setdefault(work_id, Rating(user_id, work_id, score, when))
        return sorted(ratings.values(), key=lambda r: r.rated_at)

    def new_in(self, user_id: int, revision: int) -> Iterator[Rating]:
        """Yield what a reader rated in the week before a revision: often nothing, sometimes a book new in it."""
        draws = Draws(self._seed, "week", user_id, revision)
        if draws.below(5) < 2:
            work_id, _ = self._choose(draws, (draws.pick(CATEGORIES),))
            newborn = self._newborn[revision]
            if newborn and draws.below(3) == 0:
                work_id = draws.pick(newborn)
            yield Rating(
                user_id, work_id, 1 + draws.below(5), day_of(revision) - timedelta(seconds=1 + draws.below(6 * 86400))
            )

    def corrected_in(self, user_id: int, revision: int) -> Iterator[Rating]:
        """Yield a reader's corrected rating: an earlier one again, with another value and a later time."""
        if draw(self._seed, "corrects", user_id, revision) % 25 == 0:
            before = self.at_first(user_id)[0]
            changed = before.rating % 5 + 1
            yield before._replace(rating=changed, rated_at=day_of(revision) - timedelta(seconds=user_id % 3600 + 1))

    def late_in(self, user_id: int, revision: int) -> Iterator[Rating]:
        """Yield ratings that arrive years late: one of a book not rated before, and a stale one that must not win."""
        draws = Draws(self._seed, "late", user_id, revision)
        if draws.below(30) == 0:
            known = self.at_first(user_id)
            when = _BEFORE_ALL + timedelta(seconds=draws.below(360 * 86400))
            work_id, _ = self._choose(draws, (draws.pick(CATEGORIES),))
            if work_id not in {r.book_id for r in known}:
                yield Rating(user_id, work_id, 1 + draws.below(5), when)
            yield known[-1]._replace(rating=known[-1].rating % 5 + 1, rated_at=when + timedelta(days=1))

    def by_hand(self) -> list[Rating]:
        """Return the good rows of the file that people typed."""
        readers = range(self.count + 1, self.count + 1 + HAND_ENTERING_USERS)
        return [rating for user_id in readers for rating in self.at_first(user_id)[:3]]

    def _choose(self, draws: Draws, favourites: tuple[str, ...]) -> tuple[int, str]:
        favourite = draws.below(100) < 75
        shelf = draws.pick(favourites)
        invented = self._cast.invented_at_first
        if invented and draws.unit() < invented / (invented + len(self._works)):
            index = draws.below(invented)
            if favourite:
                # The nearest generated work of that shelf: pairs of works cycle through the categories.
                cycle = 2 * len(CATEGORIES)
                index = index // cycle * cycle + 2 * CATEGORIES.index(shelf) + index % 2
            index = min(index, invented - 1)
            return FIRST_ID + index, category_of(index)
        works, sums = (self._shelves[shelf], self._sums[shelf]) if favourite else (self._works, self._all_sums)
        if not works:
            works, sums = self._works, self._all_sums
        work = works[bisect(sums, draws.below(sums[-1]))]
        return work.id, work.category


def _popularity(work: Work) -> int:
    return 10 if work.rank is None else 10 + 6000 // (work.rank + 15)
