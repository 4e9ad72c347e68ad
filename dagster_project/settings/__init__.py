"""Everything configurable, as one typed model; the only package that reads the environment.

A value comes from the first of: arguments, environment variables (``BINDERY_...``), the file ``.env``, files that
``BINDERY_..._FILE`` names, the folder of secrets; secrets alone from AWS, too. What others need is offered here;
importing it is cheap. ``fields`` says which settings exist; ``layers``, ``secret_files`` and ``aws_secrets`` where
values come from; ``model`` puts both together; ``current`` keeps what this process uses; ``environment`` alone touches
the process's environment.
"""

from __future__ import annotations

from dagster_project.settings.current import compose_variables, get_settings, use_settings
from dagster_project.settings.environment import child_environment, export_environment
from dagster_project.settings.errors import MissingSettingError, SettingsError
from dagster_project.settings.layers import ENV_FILE_VARIABLE, PLAIN_NAMES, PREFIX
from dagster_project.settings.messages import unknown_names
from dagster_project.settings.model import ROLES, Role, Settings, password_name

__all__ = [
    "ENV_FILE_VARIABLE",
    "PLAIN_NAMES",
    "PREFIX",
    "ROLES",
    "MissingSettingError",
    "Role",
    "Settings",
    "SettingsError",
    "child_environment",
    "compose_variables",
    "export_environment",
    "get_settings",
    "password_name",
    "unknown_names",
    "use_settings",
]
