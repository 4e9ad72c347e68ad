"""How the shop spells what the catalogue spells otherwise: the reason why matching the two is a real job.

Titles lose their subtitle, get typographic quotes, an ampersand, a moved article or no accents; authors are written
"First Last", "Last, First", with initials or without accents. Which spelling a work gets is drawn from its id.
"""

from __future__ import annotations

import re
import unicodedata

from dagster_project.sample.catalogue import spoken_name
from dagster_project.sample.draws import Draws
from dagster_project.sample.works import Work

_SUBTITLE = re.compile(r"\s*(?:\n|; | : |: | — |, or,? | \()", re.IGNORECASE)
_ARTICLE = re.compile(r"^(The|A|An) (.+)$")


def shop_title(work: Work, seed: int) -> str:
    """Return the title on the shop's page."""
    draws = Draws(seed, "title", work.id)
    whole = re.sub(r"\s*\n\s*", ": ", work.title)
    short = _SUBTITLE.split(work.title)[0]
    title = short if draws.below(10) < 7 and len(short) > 3 else whole
    kind = draws.below(20)
    if kind < 4:
        title = title.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    elif kind < 7:
        title = title.replace(" and ", " & ")
    elif kind < 9:
        title = _ARTICLE.sub(r"\2, \1", title)
    elif kind < 12:
        title = without_accents(title)
    elif kind < 13:
        title = title.upper()
    return title


def shop_author(work: Work, seed: int) -> str:
    """Return the first author as the shop's page names them."""
    name = work.authors[0].name
    spoken = spoken_name(name)
    draws = Draws(seed, "author", work.id)
    kind = draws.below(20)
    if kind < 3:
        return name
    if kind < 5:
        first, _, last = spoken.rpartition(" ")
        return f"{' '.join(f'{part[0]}.' for part in first.split())} {last}" if first else spoken
    return without_accents(spoken) if kind < 8 else spoken


def slug_of(title: str) -> str:
    """Return a title as it stands in a URL."""
    return re.sub(r"[^a-z0-9]+", "-", without_accents(title).lower()).strip("-")[:80].strip("-") or "book"


def without_accents(text: str) -> str:
    """Return text without accents: é becomes e, ß ss, typographic quotes and dashes plain ones."""
    plain = text.translate(
        {
            0x2018: "'",
            0x2019: "'",
            0x201C: '"',
            0x201D: '"',
            0x2013: "-",
            0x2014: "-",
            0xDF: "ss",
            0xE6: "ae",
            0x153: "oe",
        }
    )
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
