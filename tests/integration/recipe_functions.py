"""Functions that the cards of the recipe's tests name."""

from __future__ import annotations

import pandas as pd


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out, refuse and add."""
    frame = frame[frame["a"] != "9"].copy()
    frame["_refuse"] = [f"{value} is too much" if value == "7" else None for value in frame["a"]]
    frame["half"] = [float(value) / 2 for value in frame["a"]]
    frame["even"] = [int(value) % 2 == 0 for value in frame["a"]]
    frame["day"] = pd.to_datetime(["2026-01-02"] * len(frame)).tz_localize("UTC")
    return frame


def broken(frame: pd.DataFrame) -> pd.DataFrame:
    """Fail."""
    raise KeyError("nothing")
