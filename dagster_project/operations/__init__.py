"""What keeps the platform running: its Dagster instance, whole-graph runs, the development servers.

Works from settings; knows neither cards nor components.
"""

from __future__ import annotations
