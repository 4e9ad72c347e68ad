"""What cards refer to in tests: settings and secrets that a test names. Real settings are tested elsewhere."""

from __future__ import annotations


class Values:
    """Resolves the names it was given, and fails with KeyError at any other: without names, at every reference."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def resolve_setting(self, name: str) -> str:
        """Give the value."""
        return self.values[name]

    def resolve_secret(self, name: str) -> str:
        """Give the value."""
        return self.values[name]
