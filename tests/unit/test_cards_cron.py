"""Cron expressions are checked with the card, by the same measure as the orchestrator's reader."""

from __future__ import annotations

import random

import pytest
from dagster._utils.schedules import is_valid_cron_string

from dagster_project.ingest.cards.cron import ALIASES, cron_fields

PLAIN = ["0", "0", "*", "*", "*"]
TEXT = """
* 0 5 7 12 13 23 24 30 31 32 59 60 00 -1 */5 */0 */70 *-3 1-5 5-1 1-5/2 3/4 7-7 22-2 0-7 mon MON-FRI fri-mon sat-sun jan
JAN-mar 1,2,3 1,,2 *,5 ? L l 1#2 1#9 5l a h
"""
PARTS = TEXT.split()


def accepted(text: str) -> bool:
    try:
        cron_fields(text)
    except ValueError:
        return False
    return True


def test_what_a_card_may_say_is_what_the_orchestrator_reads() -> None:
    chosen = random.Random(7)
    texts = {" ".join([*PLAIN[:place], part, *PLAIN[place + 1 :]]) for place in range(5) for part in PARTS}
    for _ in range(4000):
        fields = list(PLAIN)
        for place in chosen.sample(range(5), 2):
            fields[place] = chosen.choice(PARTS)
        texts.add(" ".join(fields))
    texts |= {*ALIASES, "@Daily", "@reboot", "", "* * * *", "* * * * * *", "0 0 31 2 *", "0 0 30 feb *", "0 0 29 2 *"}
    assert len(texts) > 2000
    assert {text for text in texts if accepted(text) != is_valid_cron_string(text)} == set()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("61 * * * *", "the minute is 0 to 59, got '61'"),
        ("0 0 * foo *", "the month is 1 to 12, got 'foo'"),
        ("0 0 * *", "expected five fields"),
        ("daily", "expected five fields"),
        ("@sometimes", "@daily"),
        ("0 0 31 4,6 *", "is never"),
    ],
)
def test_the_message_names_the_field(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cron_fields(text)


def test_names_are_spelled_out() -> None:
    assert cron_fields(" @daily ") == "0 0 * * *"
    assert cron_fields("0  6 * * mon") == "0 6 * * mon"
    assert all(accepted(fields) for fields in ALIASES.values())
