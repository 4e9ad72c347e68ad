"""Alerts: what an administrator must hear of, told once to each sink, and again when it is over.

``conditions`` finds what is wrong, ``store`` remembers what was told to whom, ``sinks`` sends, ``deliver`` does the
three in order, ``sensor`` does so every half minute. A message has names, counts and times: never a value of anybody's
data, never the text of an error, never a secret.
"""

from __future__ import annotations

from dagster_project.operations.alerts.alert import Alert

__all__ = ["Alert"]
