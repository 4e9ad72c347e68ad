"""``Settings``: the fields, filled from the layers, and what is computed from several of them.

Opens no connection: what a database or a service does with a setting belongs to them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from dagster_project.settings.database_urls import with_parts
from dagster_project.settings.environment import variables
from dagster_project.settings.errors import MissingSettingError, SettingsError
from dagster_project.settings.fields import Fields
from dagster_project.settings.layers import (
    PREFIX,
    Found,
    Layers,
    default_project_dir,
    env_file,
    read_layers,
    setting_names,
)
from dagster_project.settings.messages import explain, explain_missing

Role = Literal["owner", "loader", "transformer", "features", "reader", "api", "dagster"]
ROLES: tuple[Role, ...] = get_args(Role)

LIVE_URLS = {"gutenberg_url": "https://gutendex.com", "bookshop_url": "https://books.toscrape.com"}
WORLD_FILE = "world.json"
WORLD_PATHS = {"gutenberg_url": "/api", "bookshop_url": "/shop/"}
"""Where in the sample world each source is."""
SECRET_FIELDS = frozenset(name for name, info in Fields.model_fields.items() if "Secret" in str(info.annotation))
"""Settings that are secrets, which AWS may keep."""


class _LayersSource(PydanticBaseSettingsSource):
    """Hands the layers below arguments to pydantic-settings as one source, so that their order is ours alone."""

    def __init__(self, settings_class: type[BaseSettings], arguments: Mapping[str, Any]) -> None:
        super().__init__(settings_class)
        self.arguments = arguments

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("values are given all at once")

    def __call__(self) -> dict[str, Any]:
        project_dir = Path(self.arguments.get("project_dir") or default_project_dir(variables())).absolute()
        layers = read_layers(variables(), project_dir, self.arguments)
        values: dict[str, Any] = {"project_dir": project_dir}
        for name in self.settings_cls.model_fields:
            if name not in self.arguments and (found := _find_field(layers, name)) is not None:
                values[name] = found.value
        return values


def _find_field(layers: Layers, name: str) -> Found | None:
    if name not in SECRET_FIELDS or layers.aws is None:
        return layers.find(setting_names(name))
    try:
        return layers.find(setting_names(name), secret=True)
    except SettingsError as error:
        # A step may lack the right to what only the platform's services use: whoever needs the value says so.
        logging.getLogger(__name__).warning("%s is taken as not set: %s", setting_names(name)[0], error)
        return None


class Settings(Fields):
    """Everything configurable, as one typed value. Each field's description is what the settings page says."""

    def __init__(self, **arguments: Any) -> None:
        """Read every layer.

        Raises:
            SettingsError: A value is wrong; every wrong one is named.
        """
        try:
            super().__init__(**arguments)
        except ValidationError as error:
            raise SettingsError(explain(error, type(self), variables(), arguments)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put our layers below the arguments."""
        return init_settings, _LayersSource(settings_cls, init_settings())

    # Derived values

    @property
    def in_containers(self) -> bool:
        """Whether this is one of the platform's containers or tasks: somebody else has prepared everything."""
        return self.environment in {"docker", "ecs"}

    @property
    def secrets_path(self) -> Path:
        """Folder of secrets in use."""
        return self.secrets_dir if self.secrets_dir is not None else self.data_dir / "secrets"

    @property
    def drop_path(self) -> Path:
        """Absolute drop folder."""
        return self.drop_dir

    @property
    def landing_root(self) -> str:
        """Root of the archive of raw bytes."""
        return self.landing_url if self.landing_url is not None else str(self.data_dir / "landing")

    @property
    def dagster_home_path(self) -> Path:
        """Dagster's instance folder in use."""
        return self.dagster_home if self.dagster_home is not None else self.data_dir / "dagster"

    @property
    def dbt_path(self) -> Path:
        """The dbt command in use; a bare ``dbt`` is looked for in PATH."""
        own = self.project_dir / ".venv-dbt" / "bin" / "dbt"
        return self.dbt_executable or (own if own.exists() else Path("dbt"))

    def resolve_setting(self, name: str) -> str:
        """Give what ``{setting: name}`` of a card means, as text.

        Raises:
            MissingSettingError: It has no value.
            SettingsError: It is a secret, or its file can't be read.
        """
        field = name.lower()
        info = type(self).model_fields.get(field)
        if info is None:
            if (found := self._layers().find(setting_names(field))) is not None:
                return found.value
            raise MissingSettingError(self._missing(name, "a card's setting", setting_names(field), kind="setting"))
        value = getattr(self, field)
        if isinstance(value, SecretStr):
            raise SettingsError(f"{name} is a secret: a card refers to it as {{secret: {name}}}")
        if value is None:
            value = self._computed(field)
        if value is None:
            hint = " The sample world isn't running: `bindery world start`." if field in LIVE_URLS else ""
            raise MissingSettingError(self._missing(name, info.description or "", setting_names(field)) + hint)
        return str(value)

    def resolve_secret(self, name: str) -> SecretStr:
        """Give what ``{secret: NAME}`` of a card means. Reads the layers anew, so that a rotated secret is seen.

        Raises:
            MissingSettingError: It has no value.
            SettingsError: Its file can't be read.
        """
        field = name.lower().removeprefix(PREFIX.lower())
        value = getattr(self, field, None) if field in type(self).model_fields else None
        if isinstance(value, SecretStr):
            return value
        names = (name, name.upper(), PREFIX + name.upper())
        if (found := self._layers().find(names, secret=True)) is None:
            hint = f" Or keep it in AWS as {self.secrets_from.partition(':')[2]}{name}." if self.secrets_from else ""
            raise MissingSettingError(self._missing(name, "a secret", (name.upper(),), kind="secret") + hint)
        return SecretStr(found.value)

    def find_secret(self, name: str) -> SecretStr | None:
        """Give a secret, or None where no layer has it."""
        try:
            return self.resolve_secret(name)
        except MissingSettingError:
            return None

    def _computed(self, field: str) -> str | float | Path | None:
        """Give the value that a field without one takes from the others."""
        live = self.sources == "live"
        if field in LIVE_URLS:
            if live:
                return LIVE_URLS[field]
            if self.world_url is not None:
                return self.world_url.rstrip("/") + WORLD_PATHS[field]
            return _world_url(self.data_dir / "sample" / WORLD_FILE, field)
        if field in {"gutenberg_max_pages", "bookshop_max_pages"}:
            return (5 if field.startswith("gutenberg") else 200) if live else 100_000
        if field == "gutenberg_rate":
            return 1.0 if live else 1000.0
        if field == "bookshop_delay":
            return 1.0 if live else 0.0
        others: dict[str, str | Path] = {
            "landing_url": self.landing_root,
            "secrets_dir": self.secrets_path,
            "dbt_executable": self.dbt_path,
            "dagster_home": self.dagster_home_path,
        }
        return others.get(field)

    def _missing(
        self, name: str, expected: str, names: tuple[str, ...], kind: Literal["setting", "secret"] = "setting"
    ) -> str:
        dotenv = env_file(variables(), self.project_dir)
        known = list(type(self).model_fields) if kind == "setting" else []
        return explain_missing(name, expected, names, kind, dotenv, self.secrets_path, known)

    def _layers(self) -> Layers:
        told = {"data_dir": self.data_dir, "secrets_dir": self.secrets_dir, "secrets_from": self.secrets_from}
        return read_layers(variables(), self.project_dir, told)

    # Connections

    def dsn(self, role: Role, database: str | None = None) -> SecretStr:
        """Give the libpq URL with which a role connects.

        Raises:
            MissingSettingError: No server was ever started, or the role's password is not there.
        """
        database = database or (self.dagster_database if role == "dagster" else self.database_name)
        login = f"bindery_{role}"
        if self.database_login == "shared":
            return with_parts(self.admin_dsn(), database=database, options=f"-c role={login}")
        password = self.find_secret(f"POSTGRES_{role.upper()}_PASSWORD")
        if password is None:
            raise MissingSettingError(
                f"the password of the database role {login} is not there: expected the file "
                f"{self.secrets_path / password_name(role)} or POSTGRES_{role.upper()}_PASSWORD. "
                "`bindery db start` makes what is missing"
            )
        return with_parts(self.admin_dsn(), database=database, login=login, password=password.get_secret_value())

    def admin_dsn(self, database: str | None = None) -> SecretStr:
        """Give the URL of the login that creates roles and databases: the database URL, or the embedded superuser.

        Raises:
            MissingSettingError: There is no database URL, and no embedded server was ever started.
        """
        if self.database_url is not None:
            return self.database_url if database is None else with_parts(self.database_url, database=database)
        home = self.data_dir / "postgres"
        try:
            port = json.loads((home / "server.json").read_text())["port"]
            password = (home / "password").read_text().strip()
        except (OSError, ValueError, KeyError):
            raise MissingSettingError(
                f"no Postgres: none was started in {home} and BINDERY_DATABASE_URL is not set. "
                "`bindery db start` starts the embedded one"
            ) from None
        return SecretStr(f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{port}/{database or 'postgres'}")


def password_name(role: Role) -> str:
    """Name the file in the folder of secrets that holds a role's password."""
    return f"postgres_{role}_password"


def _world_url(path: Path, field: str) -> str | None:
    """Read where the running sample world listens; it writes this file when it starts."""
    try:
        found = json.loads(path.read_text()).get(field)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None
