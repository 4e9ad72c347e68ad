"""dbt's models as Dagster assets: from the manifest to ops, and from dbt's log to materialisations and checks.

dbt itself lives in an environment of its own and is called as a program; nothing here imports it. What a model says
belongs to ``dbt_project``.
"""

from __future__ import annotations
