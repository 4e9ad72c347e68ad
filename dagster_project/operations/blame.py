"""Which line of ``defs/`` an error comes from: what somebody who wrote an asset wants to know before any traceback."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from pathlib import Path

from dagster_project.ingest.errors import IngestError

DEFS = Path(__file__).parent.parent / "defs"
_FRAME = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')


class AssetCodeError(IngestError):
    """A Python file in ``defs/`` can't be loaded; the message names file, line and error."""

    exit_code = 2


def explained(error: BaseException, defs: Path = DEFS) -> AssetCodeError | None:
    """Make the one-line error of a failure to load definitions; None where no file in ``defs/`` has part in it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(cause.__traceback__)]
        said = str(cause)
        if isinstance(cause, SyntaxError) and cause.filename:
            frames.append((cause.filename, cause.lineno or 0))  # what can't be compiled has no frame
            said = cause.msg
        place = _innermost(frames, defs)
        if place is not None:
            return AssetCodeError(f"{place}: {type(cause).__name__}: {said}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def place_in(stack: Iterable[str], defs: Path = DEFS) -> str | None:
    """Give ``file:line`` of the innermost frame in ``defs/`` of a traceback's lines; None where there is none."""
    matches = (_FRAME.match(text) for text in stack)
    return _innermost([(match["file"], int(match["line"])) for match in matches if match], defs)


def _innermost(frames: list[tuple[str, int]], defs: Path) -> str | None:
    root = defs.parent.parent
    for file, line in reversed(frames):
        path = Path(file)
        if path.is_relative_to(defs):
            return f"{path.relative_to(root)}:{line}"
        parts = path.parts
        # In a container the step's copy of the package lies elsewhere than this process's.
        for at in range(len(parts) - 1, 0, -1):
            if parts[at - 1 : at + 1] == (defs.parent.name, defs.name):
                return f"{Path(*parts[at - 1 :])}:{line}"
    return None
