"""The sample world: a book catalogue API, a bookshop site and a drop folder, on loopback, with no internet.

Standard library only; imports nothing of the project and reads no environment. What others use is exported here; see
docs/sample-world.md.
"""

from __future__ import annotations

from dagster_project.sample.drops import DropReport, write_drops
from dagster_project.sample.process import SampleWorldError, WorldInfo, ensure_running, status, stop
from dagster_project.sample.world import World

__all__ = ["DropReport", "SampleWorldError", "World", "WorldInfo", "ensure_running", "status", "stop", "write_drops"]
