"""A plot made of characters: the UI's markdown shows no inline images, and characters need no dependency."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars from 0 to the largest; an empty bar (``·``) stands for 0."""
    highest = max(values, default=0)
    if highest <= 0:
        return "·" * len(values)
    steps = len(_BARS) - 1
    return "".join("·" if value <= 0 else _BARS[round(value / highest * steps)] for value in values)


def bar(share: float, width: int = 24) -> str:
    """Draw one horizontal bar; anything above nothing shows at least a sliver."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
