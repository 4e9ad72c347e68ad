"""The dbt part of the code location, at the cost of reading one file.

A step reads the manifest that is there. Only where the code location is *initialised* (by the code server, or by the
command line) an outdated manifest is parsed anew, so that an edited model shows up on reload.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.dbt_assets.manifest import read_manifest
from dagster_project.dbt_assets.ops import dbt_definitions
from dagster_project.dbt_assets.program import DbtError, is_current, manifest_path, prepare

if TYPE_CHECKING:
    from dagster_project.settings import Settings


def load_dbt(settings: Settings) -> dg.Definitions:
    """Build dbt's assets.

    Raises:
        ManifestError: There is no manifest and no dbt to make one.
        DbtError: dbt refuses the project, and there is no earlier manifest.
    """
    path = manifest_path(settings)
    if not path.exists() or (_initialising() and not is_current(settings)):
        try:
            prepare(settings)
        except DbtError as error:
            if not path.exists():
                raise
            # The last good manifest serves: one bad model must not take every source down.
            logging.getLogger(__name__).warning("dbt's manifest is older than its project: %s", error)
    return dbt_definitions(read_manifest(path), settings.dbt_project_dir)


def _initialising() -> bool:
    from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType

    return DefinitionsLoadContext.get().load_type == DefinitionsLoadType.INITIALIZATION
