"""Generated works, for worlds larger than the committed real ones (scale above 1).

A work is computed from its index alone, so that a world of any size needs no memory. Ids are above 1,000,000 and each
one carries the bookshelf "Generated: sample world": nobody can take them for real books.
"""

from __future__ import annotations

from datetime import date, timedelta

from dagster_project.sample.draws import Draws
from dagster_project.sample.works import CATEGORIES, LANGUAGES, Person, Work

FIRST_ID = 1_000_001
SHELF = "Generated: sample world"

_ADJECTIVES = (
    "Amber", "Autumn", "Bitter", "Borrowed", "Broken", "Burning", "Crooked", "Distant", "Drowned", "Eastern", "Empty",
    "Faithful", "Fallen", "Forgotten", "Frozen", "Gilded", "Golden", "Hidden", "Hollow", "Idle", "Last", "Lonely",
    "Long", "Lost", "Modest", "Northern", "Patient", "Painted", "Quiet", "Restless", "Salted", "Scarlet", "Second",
    "Silent", "Silver", "Slow", "Unfinished", "Unwritten", "Western", "Winter",
)  # fmt: skip
_NOUNS = (
    "Almanac", "Anchor", "Apprentice", "Archive", "Bell", "Bridge", "Candle", "Cartographer", "Cathedral", "Clock",
    "Compass", "Correspondence", "Daughter", "Engine", "Estate", "Ferry", "Garden", "Gate", "Glassmaker", "Harbour",
    "Heir", "House", "Inheritance", "Island", "Journey", "Keeper", "Lamp", "Lantern", "Library", "Lighthouse", "Map",
    "Market", "Meadow", "Mill", "Mirror", "Museum", "Notebook", "Oath", "Orchard", "Organist", "Physician", "Pilgrim",
    "Quarry", "Regiment", "River", "Road", "School", "Season", "Shepherd", "Ship", "Signal", "Sister", "Station",
    "Surgeon", "Tailor", "Theatre", "Tower", "Traveller", "Window", "Workshop",
)  # fmt: skip
_PLACES = (
    "Aldermere", "Ashcombe", "Bellhaven", "Brackwater", "Calder Vale", "Carrowmore", "Dunmarrow", "Eastmarch",
    "Elderfield", "Farrowgate", "Fenwick Hall", "Glenarra", "Greywick", "Hallowmere", "Harrowdene", "Inverloch",
    "Kestrel Bay", "Kingsreach", "Larkhill", "Lindenau", "Marsh End", "Mirefold", "Montverre", "Northwold", "Oakhurst",
    "Pellworth", "Port Sorrel", "Quillmoor", "Ravensby", "Rookford", "Saint-Aubrac", "Selwyn Cross", "Stonebridge",
    "Tarnside", "Thornbury", "Ullesmere", "Valdoro", "Westerleigh", "Wexmoor", "Yarrowdale",
)  # fmt: skip
_FIRST_NAMES = (
    "Ada", "Albert", "Alice", "Ambrose", "Beatrice", "Cecil", "Clara", "Conrad", "Cora", "Edith", "Edmund", "Eleanor",
    "Ernest", "Esther", "Eugène", "Felix", "Florence", "Frederick", "Georgiana", "Gustav", "Harriet", "Henri",
    "Hubert", "Ida", "Isabel", "Jules", "Julia", "Leopold", "Lucy", "Margaret", "Martin", "Mathilde", "Oliver",
    "Philippa", "René", "Rosalind", "Samuel", "Theodora", "Victor", "Winifred",
)  # fmt: skip
_LAST_NAMES = (
    "Abernathy", "Ainsleigh", "Alcott-Reed", "Barrow", "Beaumont", "Bellamy", "Blackwood", "Brandt", "Carrow",
    "Chevalier", "Crane", "Dacre", "Delacourt", "Dunmore", "Ellery", "Fairfax", "Farquhar", "Fontaine", "Garrick",
    "Goodfellow", "Granger", "Hale", "Harcourt", "Holloway", "Ingram", "Jarrow", "Kessler", "Lacey", "Langford",
    "Lefèvre", "Lindqvist", "Marchbanks", "Mertens", "Moreau", "Nightingale", "Oakley", "Penrose", "Quiller", "Rowe",
    "Sandoval", "Sinclair", "Thackery", "Thorne", "Underhill", "Vance", "Vidal", "Wainwright", "Weiss", "Whitlock",
    "Yorke",
)  # fmt: skip
_PATTERNS = ("The {a} {n} of {p}", "{a} {n}s: A Story of {p}", "A {n} in {p}; or, the {a} Year", "{p} and the {a} {n}")
_TITLES = len(_ADJECTIVES) * len(_NOUNS) * len(_PLACES) * len(_PATTERNS)
_STRIDE = 7_919_111  # shares no factor with the number of titles: each is used once, and neighbours look unrelated
_FIRST_ISSUED = date(1996, 1, 1)


def category_of(index: int) -> str:
    """Return the category of generated work `index`; pairs share one, so that each shelf has sold and unsold ones."""
    return CATEGORIES[index // 2 % len(CATEGORIES)]


def invent(index: int, seed: int) -> Work:
    """Return the generated work number `index` (0, 1, ...). No two have the same title."""
    draws = Draws(seed, "invented", index)
    category = category_of(index)
    birth = 1780 + draws.below(110)
    language = "en" if draws.below(10) < 8 else draws.pick([*LANGUAGES])
    author = Person(f"{draws.pick(_LAST_NAMES)}, {draws.pick(_FIRST_NAMES)}", birth, birth + 35 + draws.below(50))
    title, place = _title(index)
    return Work(
        id=FIRST_ID + index,
        issued=(_FIRST_ISSUED + timedelta(days=draws.below(9000))).isoformat(),
        title=title,
        languages=(language,),
        authors=(author,),
        subjects=(f"{category} -- Fiction", f"{place} (Imaginary place) -- Fiction"),
        bookshelves=(category, SHELF),
        category=category,
        invented=True,
    )


def _title(index: int) -> tuple[str, str]:
    """Return the title of generated work `index` and the place it is about."""
    part, place_in_cycle = divmod(index, _TITLES)
    rest = place_in_cycle * _STRIDE % _TITLES
    rest, adjective = divmod(rest, len(_ADJECTIVES))
    rest, noun = divmod(rest, len(_NOUNS))
    pattern, place = divmod(rest, len(_PLACES))
    title = _PATTERNS[pattern].format(a=_ADJECTIVES[adjective], n=_NOUNS[noun], p=_PLACES[place])
    return (title if part == 0 else f"{title} (Part {part + 1})"), _PLACES[place]
