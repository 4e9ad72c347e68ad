"""Where steps run: processes on a laptop; elsewhere containers, one a step.

Which executor an environment has is chosen here; what a step does is no concern of this room.
"""

from __future__ import annotations
