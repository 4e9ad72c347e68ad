"""Runs and steps as containers of one Docker engine.

What a container may have is decided in ``containers``; what the engine is asked for, by ``launcher`` (runs) and
``step_handler`` (steps); what is said about one that died, in ``diagnosis``.
"""

from __future__ import annotations
