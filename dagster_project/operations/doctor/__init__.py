"""What can be wrong around the platform before any of its work begins: each check looks, says, and names the fix.

Nothing here starts, changes or repairs anything. One function per check, each gives findings and raises nothing that
belongs to what it looks at.
"""

from __future__ import annotations

from dagster_project.operations.doctor.finding import Finding

__all__ = ["Finding"]
