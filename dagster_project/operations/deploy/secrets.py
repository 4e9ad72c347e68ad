"""Secrets on AWS: made where they are missing, straight into Secrets Manager or the Parameter Store.

Neither Terraform nor its state ever has them. What is there is kept, so the step may be repeated; nothing here prints
one, but for the operator's login, when asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dagster_project.operations.deploy.errors import DeployError, DeployRefusedError

OPERATOR_PASSWORD, UI_USERS, OPERATOR = "operator_password", "ui_users", "operator"
_MISSING = {"ResourceNotFoundException", "ParameterNotFound"}


@dataclass(frozen=True)
class Store:
    """Secrets of one platform, wherever they are kept."""

    kind: str
    """``secretsmanager`` or ``ssm``."""
    prefix: str
    client: Any

    @classmethod
    def of(cls, place: str, session: Any) -> Store:
        """Open the place that the setting ``secrets_from`` names: ``ssm:/bindery/``."""
        kind, _, prefix = place.partition(":")
        return cls(kind, prefix, session.client("ssm" if kind == "ssm" else "secretsmanager"))

    def find(self, name: str) -> str | None:
        """Give a secret's value, or None where it has none yet."""
        from botocore.exceptions import ClientError

        try:
            if self.kind == "ssm":
                return str(
                    self.client.get_parameter(Name=self.prefix + name, WithDecryption=True)["Parameter"]["Value"]
                )
            return str(self.client.get_secret_value(SecretId=self.prefix + name)["SecretString"])
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return None
            raise DeployError(f"the secret {self.prefix}{name} can't be read: {error}") from None

    def keep(self, name: str, value: str) -> None:
        """Write a secret; make its name where Terraform hasn't."""
        from botocore.exceptions import ClientError

        if self.kind == "ssm":
            self.client.put_parameter(Name=self.prefix + name, Value=value, Type="SecureString", Overwrite=True)
            return
        try:
            self.client.put_secret_value(SecretId=self.prefix + name, SecretString=value)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _MISSING:
                raise DeployError(f"the secret {self.prefix}{name} can't be written: {error}") from None
            self.client.create_secret(Name=self.prefix + name, SecretString=value)

    def names(self) -> list[str]:
        """List the names that there are."""
        if self.kind == "ssm":
            pages = self.client.get_paginator("describe_parameters").paginate(
                ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": [self.prefix]}]
            )
            found = [each["Name"] for page in pages for each in page["Parameters"]]
        else:
            pages = self.client.get_paginator("list_secrets").paginate(
                Filters=[{"Key": "name", "Values": [self.prefix]}]
            )
            found = [each["Name"] for page in pages for each in page["SecretList"]]
        return sorted(name.removeprefix(self.prefix) for name in found if name.startswith(self.prefix))

    def remove(self, names: Iterable[str]) -> None:
        """Remove secrets for good."""
        for name in names:
            if self.kind == "ssm":
                self.client.delete_parameter(Name=self.prefix + name)
            else:
                self.client.delete_secret(SecretId=self.prefix + name, ForceDeleteWithoutRecovery=True)


def fill(store: Store, names: Iterable[str]) -> list[str]:
    """Make what is missing of the secrets that every platform has.

    Returns:
        Names of those that were made.
    """
    made: list[str] = []
    # The operator's password before its hash, which is made from it.
    for name in sorted(names, key=lambda each: each == UI_USERS):
        if store.find(name) is not None:
            continue
        store.keep(name, _hashed(store.find(OPERATOR_PASSWORD)) if name == UI_USERS else secrets.token_urlsafe(24))
        made.append(name)
    return made


def set_secret(store: Store, name: str, value: str) -> None:
    """Keep what a card names as ``{secret: NAME}``.

    Raises:
        DeployRefusedError: The name can't be one, is a password that the platform makes, or the value is empty.
    """
    if not name.replace("_", "").isalnum():
        raise DeployRefusedError(f"{name!r}: a secret's name has letters, digits and _")
    if name.lower().startswith("postgres_") or name.lower() in {OPERATOR_PASSWORD, UI_USERS}:
        raise DeployRefusedError(f"{name} is the platform's own: delete its value, and the next deploy makes another")
    if not value:
        raise DeployRefusedError("the value is empty")
    store.keep(name, value)


def _hashed(password: str | None) -> str:
    """Write the login as Caddy reads it."""
    if password is None:
        raise DeployError(f"{UI_USERS} is made from {OPERATOR_PASSWORD}, which has no value")
    import bcrypt

    return f"{OPERATOR} {bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=10)).decode()}"
