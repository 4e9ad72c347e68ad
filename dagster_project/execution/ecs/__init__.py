"""Runs and steps as ECS tasks: what they look like, who starts them, who watches, what is said when they die.

``sizes`` and ``tasks`` describe, ``cluster`` talks to ECS, ``launcher`` starts runs, ``step_handler`` and ``executor``
start steps, ``diagnosis`` finds words, ``supervisor`` clears up, ``preflight`` looks before anything is started.
"""

from __future__ import annotations
