"""What the containers and tasks of runs and steps are called by: labels in Docker, tags on ECS, the same words.

Names only: who sets them and who looks for them is written in the rooms beside.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["run", "step"]
PROJECT = "bindery.project"
KIND = "bindery.kind"
RUN = "bindery.run"
STEP = "bindery.step"
ATTEMPT = "bindery.attempt"
ASSETS = "bindery.assets"
JOB = "bindery.job"
COMMIT = "bindery.commit"
COMPUTE = "bindery.compute"
