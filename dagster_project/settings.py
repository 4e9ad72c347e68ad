"""Everything configurable, as one typed model. The only module that reads the environment.

A value comes from the first of: arguments, environment variables (``BINDERY_...``), the file ``.env``, files that
``BINDERY_..._FILE`` names, the folder of secrets. Importing this module is cheap; it opens no connection. What a
database or a service does with a setting belongs to them.

``python -m dagster_project.settings --env-example`` and ``--markdown`` print the generated pages.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dagster_project.database_urls import with_parts
from dagster_project.secret_files import folder_signature
from dagster_project.settings_errors import explain, explain_missing
from dagster_project.settings_layers import (
    ENV_FILE_VARIABLE,
    PLAIN_NAMES,
    PREFIX,
    Layers,
    MissingSettingError,
    SettingsError,
    default_project_dir,
    env_file,
    read_layers,
    setting_names,
)

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
    "export_environment",
    "get_settings",
    "password_name",
    "use_settings",
]

Role = Literal["owner", "loader", "transformer", "features", "reader", "api", "dagster"]
ROLES: tuple[Role, ...] = get_args(Role)

LIVE_URLS = {"gutenberg_url": "https://gutendex.com", "bookshop_url": "https://books.toscrape.com"}
WORLD_FILE = "world.json"


class _LayersSource(PydanticBaseSettingsSource):
    """Hands the layers below arguments to pydantic-settings as one source, so that their order is ours alone."""

    def __init__(self, settings_class: type[BaseSettings], arguments: Mapping[str, Any]) -> None:
        super().__init__(settings_class)
        self.arguments = arguments

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("values are given all at once")

    def __call__(self) -> dict[str, Any]:
        project_dir = Path(self.arguments.get("project_dir") or default_project_dir(os.environ)).absolute()
        layers = read_layers(os.environ, project_dir, self.arguments)
        values: dict[str, Any] = {"project_dir": project_dir}
        for name in self.settings_cls.model_fields:
            if name not in self.arguments and (found := layers.find(setting_names(name))) is not None:
                values[name] = found.value
        return values


Cron = Annotated[
    str,
    Field(pattern=r"^(@(hourly|daily|weekly|monthly)|\S+ \S+ \S+ \S+ \S+)$"),
]


class Settings(BaseSettings):
    """Everything configurable. Each field's description is what the settings page and ``.env.example`` say."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    # Places
    project_dir: Path = Field(
        default=Path(),
        description="Folder that relative paths start from. By default the checkout, or the working directory where "
        "Bindery is installed as a package.",
    )
    data_dir: Path = Field(
        default=Path(".bindery"),
        description="Where this installation keeps its state: embedded Postgres, generated passwords, landed bytes.",
    )
    drop_dir: Path = Field(default=Path("drop"), description="Folder that people drop files into.")
    landing_url: str | None = Field(
        default=None, description="Root of the archive of raw bytes. By default `landing` in the data directory."
    )
    secrets_dir: Path | None = Field(
        default=None,
        description="Folder of secrets, one file each, as Docker, Kubernetes and Vault Agent mount them; also `*.env` "
        "and `*.json` files. Read again when it changes. By default the folder `secrets` of the data directory, where "
        "generated passwords are kept.",
    )
    environment: Literal["local", "docker", "ecs", "test"] = Field(default="local", description="Where this runs.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged.")
    code_version: str | None = Field(default=None, description="Version or commit of the code, kept in the load log.")

    # Database
    database_url: SecretStr | None = Field(
        default=None,
        description="A Postgres >= 16 with pgvector to use instead of the embedded one: `postgresql://user:password@host:"
        "port/database`. The login creates the roles and databases, so it needs CREATEROLE and CREATEDB; the "
        "URL's database is only where it connects first.",
    )
    database_login: Literal["own", "shared"] = Field(
        default="own",
        description="`own`: every role logs in with its own password. `shared`: every connection logs in as the "
        "database URL says and takes on the role, for servers whose administrator made the roles and granted them.",
    )
    database_name: str = Field(
        default="bindery",
        pattern=r"^[a-z_][a-z0-9_]{0,50}$",
        description="Name of the warehouse database. Environments on one server differ by it.",
    )
    dagster_database: str = Field(
        default="dagster", pattern=r"^[a-z_][a-z0-9_]{0,50}$", description="Name of the database of Dagster's storage."
    )
    debug_database: str = Field(
        default="bindery_debug",
        pattern=r"^[a-z_][a-z0-9_]{0,50}$",
        description="Name of the scratch database that `--debug` fills and drops.",
    )
    embedded_user: str = Field(
        default="nobody",
        description="Account that the embedded Postgres runs as when Bindery runs as root, which Postgres refuses.",
    )

    # Sources
    sources: Literal["sample", "live"] = Field(
        default="sample", description="`sample`: the bundled world on this machine. `live`: the real sites."
    )
    sample_scale: float = Field(default=1, gt=0, le=100_000, description="Size of the sample world.")
    revision: int = Field(
        default=1, ge=1, le=1000, description="State of the sample world: 2 has new books, changed prices, corrections."
    )
    contact: str = Field(
        default="https://example.org/contact-not-set",
        min_length=3,
        description="Mail address or page of whoever is behind the requests: part of the User-Agent. Set it before "
        "you read real sites.",
    )
    gutenberg_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Root of the catalogue API. By default the sample world's, or https://gutendex.com when live.",
    )
    bookshop_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Root of the bookshop. By default the sample world's, or https://books.toscrape.com when live.",
    )
    gutenberg_max_pages: int | None = Field(
        default=None, ge=1, description="Most pages of the catalogue per fetch. By default 100000, or 5 when live."
    )
    bookshop_max_pages: int | None = Field(
        default=None, ge=1, description="Most pages of the bookshop per fetch. By default 100000, or 200 when live."
    )
    gutenberg_rate: float | None = Field(
        default=None, gt=0, description="Requests a second to the catalogue. By default 1 when live, else 1000."
    )
    bookshop_delay: float | None = Field(
        default=None, ge=0, description="Seconds between two requests to the bookshop. By default 1 when live, else 0."
    )
    gutenberg_schedule: Cron = Field(default="0 * * * *", description="When the catalogue is read (cron, UTC).")
    bookshop_schedule: Cron = Field(default="0 4 * * 1", description="When the bookshop is read (cron, UTC).")
    uploads_schedule: Cron = Field(
        default="30 3 * * *", description="When the drop folder is read even if no sensor saw a file (cron, UTC)."
    )
    debug_rows: int = Field(default=50, ge=1, description="Rows per stream of a debug run.")

    # dbt and Dagster
    dbt_project_dir: Path = Field(default=Path("dbt_project"), description="Folder of the dbt project.")
    dbt_executable: Path | None = Field(
        default=None,
        description="The dbt command. By default `.venv-dbt/bin/dbt` of the project, else `dbt` from PATH.",
    )
    code_host: str = Field(
        default="127.0.0.1", description="Where Dagster's code server listens; `workspace.yaml` reads it."
    )
    code_port: int = Field(
        default=4266, ge=1, le=65535, description="Port of Dagster's code server; `workspace.yaml` reads it."
    )
    dagster_home: Path | None = Field(
        default=None, description="Dagster's instance folder. By default the folder `dagster` of the data directory."
    )

    def __init__(self, **arguments: Any) -> None:
        """Read every layer.

        Raises:
            SettingsError: A value is wrong; every wrong one is named.
        """
        try:
            super().__init__(**arguments)
        except ValidationError as error:
            raise SettingsError(explain(error, type(self), os.environ, arguments)) from None

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

    @field_validator("database_url")
    @classmethod
    def _is_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"^postgres(ql)?://", value.get_secret_value()):
            raise ValueError("should be postgresql://user:password@host:port/database")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        names = (self.database_name, self.dagster_database, self.debug_database)
        if len(set(names)) != len(names):
            raise ValueError(f"database_name, dagster_database, debug_database should differ, got {', '.join(names)}")
        if self.database_login == "shared" and self.database_url is None:
            raise ValueError("database_login=shared needs database_url")
        return self

    @model_validator(mode="after")
    def _paths_are_absolute(self) -> Settings:
        root = self.project_dir.expanduser().absolute()
        for name in ("project_dir", "data_dir", "drop_dir", "secrets_dir", "dbt_project_dir", "dagster_home"):
            path = getattr(self, name)
            if path is not None:
                # The model is frozen for everybody else; this is still its construction.
                self.__dict__[name] = root / path.expanduser()
        return self

    # Derived values

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
        if (found := self._layers().find(names)) is None:
            raise MissingSettingError(self._missing(name, "a secret", (name.upper(),), kind="secret"))
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
            return LIVE_URLS[field] if live else _world_url(self.data_dir / "sample" / WORLD_FILE, field)
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
        dotenv = env_file(os.environ, self.project_dir)
        known = list(type(self).model_fields) if kind == "setting" else []
        return explain_missing(name, expected, names, kind, dotenv, self.secrets_path, known)

    def _layers(self) -> Layers:
        return read_layers(os.environ, self.project_dir, {"data_dir": self.data_dir, "secrets_dir": self.secrets_dir})

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


_cached: tuple[object, Settings] | None = None
_pinned: Settings | None = None


def get_settings() -> Settings:
    """Give the settings, read once; again when the environment, ``.env`` or the folder of secrets changed.

    Raises:
        SettingsError: A value is wrong.
    """
    global _cached
    if _pinned is not None:
        return _pinned
    if _cached is not None and _cached[0] == _state_of_sources(_cached[1]):
        return _cached[1]
    settings = Settings()
    _cached = (_state_of_sources(settings), settings)
    return settings


def use_settings(settings: Settings | None) -> None:
    """Make ``get_settings`` give these settings in this process (command-line options do); None takes it back."""
    global _pinned
    _pinned = settings


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Give the environment for a program that a person uses as their own, such as psql: theirs, and what is added."""
    return {**os.environ, **extra}


def export_environment(values: Mapping[str, str]) -> None:
    """Put values into this process's environment, for libraries and child processes that read nothing else."""
    os.environ.update(values)


def _state_of_sources(settings: Settings) -> object:
    plain = set(PLAIN_NAMES.values())
    environment = tuple((key, value) for key, value in os.environ.items() if key.startswith(PREFIX) or key in plain)
    dotenv = env_file(os.environ, settings.project_dir)
    try:
        found = dotenv.stat()
        signature: object = (found.st_mtime_ns, found.st_ino, found.st_size)
    except OSError:
        signature = None
    named = [Path(value) for key, value in environment if key.endswith("_FILE") and value]
    times = tuple(path.stat().st_mtime_ns if path.exists() else None for path in named)
    return environment, Path.cwd(), dotenv, signature, times, folder_signature(settings.secrets_path)


if __name__ == "__main__":
    from dagster_project.settings_pages import main

    sys.exit(main(sys.argv[1:]))
