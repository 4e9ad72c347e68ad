"""The errors of settings. What they say is written in ``messages``; what stops because of them is the caller's."""

from __future__ import annotations


class SettingsError(Exception):
    """A setting is wrong; the message names it, what was expected and where to set it."""

    exit_code = 2


class MissingSettingError(SettingsError):
    """A setting or secret that something needs has no value."""
