"""A stand-in for dbt's `bindery` namespace while sqlfluff lints the models.

dbt lets a macro be called as `bindery.tidy_text(...)`; sqlfluff loads the macros of the project, but knows no such
name. Each macro becomes a function call of the same name here: that is a valid expression wherever a macro of ours
stands, and the macro's own SQL is linted by nobody twice.
"""

from __future__ import annotations

from collections.abc import Callable


def __getattr__(name: str) -> Callable[..., str]:
    """Return a macro of this name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *arguments, **options: f"{name}({', '.join(map(str, [*arguments, *options.values()]))})"
