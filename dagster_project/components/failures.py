"""How an error of the engine ends a step: with words that tell what to do, and retried only where it may pass.

A permanent failure raises ``Failure(allow_retries=False)``: asking a source a thousand times for what it doesn't have
helps nobody.
"""

from __future__ import annotations

import dagster as dg

ADVICE = {
    "CardError": "Change the card; `bindery check` reads it without running anything.",
    "MissingSettingError": "Set it (`bindery check` lists what cards need), then run the step again.",
    "TransientSourceError": "It may pass; the fetch resumes where it stopped.",
    "SourceError": "Asking again won't help: look at the source, then at the card.",
    "UnreadableObjectsError": "The rest is loaded. Correct the files, or the card and replay.",
    "DataRefusedError": "Nothing of this load was kept. Look at the data, or change the card's bounds.",
    "OutputError": "What is loaded is loaded; the next run writes what is missing.",
    "LandingError": "The archive of raw bytes is damaged or full.",
    "DatabaseError": "Look at the database; nothing of this load was kept.",
}
"""Class name -> what to do. By name, so that no module of the engine is imported when definitions load."""

_PASSING_SQLSTATES = ("08", "40", "53", "55P03", "57P")
"""Connection lost, serialisation or deadlock, out of resources, lock not available, server going down."""


def is_known(error: BaseException) -> bool:
    """Say whether an error was raised on purpose, with words for people; any other keeps its traceback."""
    return isinstance(getattr(error, "exit_code", None), int)


def is_transient(error: BaseException) -> bool:
    """Say whether trying again may help."""
    transient = getattr(error, "transient", None)
    if isinstance(transient, bool) and transient:
        return True
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__module__.partition(".")[0] == "psycopg":
            state = getattr(cause, "sqlstate", None)
            # Without a state it never came to a statement: the connection failed.
            return state.startswith(_PASSING_SQLSTATES) if state else type(cause).__name__ == "OperationalError"
        cause = cause.__cause__
    return isinstance(error, ConnectionError | TimeoutError)


def failure(error: Exception, what: str, *, tries_left: bool = True) -> dg.Failure:
    """Make the step's failure from an error of the engine.

    Args:
        error: What was raised.
        what: What was being done, such as ``fetching gutenberg``.
        tries_left: Whether the retry policy allows another try. After the last one Dagster keeps only its own words
            ("exceeded max_retries") of a failure that may be retried.
    """
    transient = is_transient(error)
    names = [kind.__name__ for kind in type(error).__mro__]
    advice = next((ADVICE[name] for name in names if name in ADVICE), "")
    # A fault of ours, unlike what is raised on purpose, needs its kind to be understood; its traceback is the cause.
    said = str(error) if is_known(error) else f"{type(error).__name__}: {error}"
    return dg.Failure(
        description=f"{what}: {said}" + (f"\n{advice}" if advice else ""),
        metadata={
            "error": type(error).__name__,
            "transient": transient,
            "advice": advice or "see the log",
            "exit_code": int(getattr(error, "exit_code", 1)),
        },
        allow_retries=transient and tries_left,
    )
