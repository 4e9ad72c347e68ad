"""The settings that exist: name, type, default, description, and what makes a value wrong.

Where a value comes from, and what is computed from several, is in ``model``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, Json, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dagster_project.settings.layers import PREFIX

Cron = Annotated[
    str,
    Field(pattern=r"^(@(hourly|daily|weekly|monthly)|\S+ \S+ \S+ \S+ \S+)$"),
]

Duration = Annotated[str, Field(pattern=r"^[1-9]\d{0,5}[smhdw]$")]
"""``6h``: a whole number of seconds, minutes, hours, days or weeks."""


TIMES = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1"}
_CRON = re.compile(r"^\S+ \S+ \S+ \S+ \S+$")


def jobs_kept_running(text: str | None) -> dict[str, str]:
    """Read the setting ``keep_running``: job -> cron expression.

    Raises:
        ValueError: A part of it is neither.
    """
    found = {}
    for part in filter(None, (each.strip() for each in (text or "").split(";"))):
        job, _, said = (each.strip() for each in part.partition("="))
        found[job] = cron_of_word(said) if job and said else ""
        if not found[job]:
            raise ValueError(f"should be job=hourly, =daily, =weekly or =cron, separated by semicolons; got {part!r}")
    return found


def cron_of_word(said: str) -> str:
    """Give the cron expression that a word or an expression means, nothing where it is none."""
    return TIMES.get(said.removeprefix("@"), said if _CRON.match(said) else "")


class Fields(BaseSettings):
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
        default=None,
        description="Root of the archive of raw bytes: a folder, or `s3://bucket/prefix`. By default `landing` in the "
        "data directory.",
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
        default=1,
        ge=1,
        le=1000,
        description="State of the sample world: 2 has new books, changed prices, corrections. Not given, it stays in "
        "the one it was last in.",
    )
    world_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where the sample world answers, if this installation doesn't start it. Compose sets it.",
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

    # Containers
    project: str = Field(
        default="bindery",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="Name of the compose project: networks, volumes and containers begin with it. Compose sets it.",
    )
    dagster_image: str | None = Field(
        default=None, description="Image of runs and of steps that ask for no other. Compose sets it."
    )
    dbt_image: str | None = Field(default=None, description="Image of dbt's steps. Compose sets it.")
    compute_classes: Json[dict[str, dict[str, str | float]]] | None = Field(
        default=None,
        description='Other sizes for compute classes, as JSON: `{"small": {"cpu": 0.5, "memory": "768MiB"}}`. '
        "Further names make further classes.",
    )

    # AWS
    uploads_queue_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="SQS queue that tells of new objects in the uploads bucket. None: buckets are only listed.",
    )
    uploads_bucket: str | None = Field(default=None, description="Bucket that uploads arrive in.")
    logs_bucket: str | None = Field(
        default=None, description="Bucket that takes the output of runs and steps, as the UI shows it. Used on ECS."
    )
    secrets_from: str | None = Field(
        default=None,
        pattern=r"^(secretsmanager:[\w/+=.@-]+|ssm:/[\w/.-]+)$",
        description="Where secrets come from that no file holds, with what their names there begin with: "
        "`secretsmanager:bindery/` or `ssm:/bindery/`. None: from nowhere else.",
    )
    ecs_cluster: str | None = Field(
        default=None, description="ECS cluster of runs and steps. By default the name of the project."
    )
    ecs_subnets: str | None = Field(
        default=None,
        pattern=r"^subnet-\w+(\s*,\s*subnet-\w+)*$",
        description="Subnets of runs and steps, separated by commas.",
    )
    ecs_security_groups: str | None = Field(
        default=None,
        pattern=r"^sg-\w+(\s*,\s*sg-\w+)*$",
        description="Security groups of runs and steps, separated by commas.",
    )
    ecs_public_ip: bool = Field(
        default=False,
        description="Whether tasks get a public address: needed in subnets without a NAT gateway or VPC endpoints.",
    )
    ecs_capacity: Literal["FARGATE_SPOT", "FARGATE"] = Field(
        default="FARGATE_SPOT",
        description="Where steps run. `FARGATE_SPOT`: cheaper, may be interrupted, and falls back to `FARGATE` when "
        "there is no capacity.",
    )
    ecs_gpu_capacity_provider: str | None = Field(
        default=None, description="Capacity provider of EC2 instances with GPUs, for classes that Fargate can't give."
    )
    ecs_exec: bool = Field(default=False, description="Whether `aws ecs execute-command` may open a shell in tasks.")

    # Operation
    alert_urls: SecretStr | None = Field(
        default=None,
        description="Where alerts go: Apprise URLs separated by blanks or line ends, such as "
        "`jsons://hooks.example.org/bindery` or a `mailtos://`. None: no alerts.",
    )
    alert_repeat: Duration = Field(
        default="6h", description="An alert that still holds is sent again after so long: `30m`, `6h`, `1d`."
    )
    alert_quarantined: int = Field(
        default=100,
        ge=0,
        description="More refused rows of a stream than this, waiting in the quarantine, are an alert.",
    )
    ui_url: str | None = Field(
        default=None, pattern=r"^https?://", description="Where people open the UI; links in alerts begin with it."
    )
    keep_running: str | None = Field(
        default=None,
        description="Jobs that are launched again whenever no run of them is active or queued, and when that is looked "
        "at: `pipeline_with_scraping=hourly; bookshop_pipeline=0 4 * * 1`; hourly, daily, weekly, or cron (UTC).",
    )
    keep_runs: Duration = Field(
        default="90d", description="How long `bindery retention` keeps finished runs and their events."
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"^postgres(ql)?://", value.get_secret_value()):
            raise ValueError("should be postgresql://user:password@host:port/database")
        return value

    @field_validator("keep_running")
    @classmethod
    def _is_job_and_cron(cls, value: str | None) -> str | None:
        jobs_kept_running(value)
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = (self.database_name, self.dagster_database, self.debug_database)
        if len(set(names)) != len(names):
            raise ValueError(f"database_name, dagster_database, debug_database should differ, got {', '.join(names)}")
        if self.database_login == "shared" and self.database_url is None:
            raise ValueError("database_login=shared needs database_url")
        return self

    @model_validator(mode="after")
    def _paths_are_absolute(self) -> Self:
        root = self.project_dir.expanduser().absolute()
        for name in ("project_dir", "data_dir", "drop_dir", "secrets_dir", "dbt_project_dir", "dagster_home"):
            path = getattr(self, name)
            if path is not None:
                # The model is frozen for everybody else; this is still its construction.
                self.__dict__[name] = root / path.expanduser()
        return self
