"""Secrets kept by AWS, as one more layer: in Secrets Manager, or as parameters of SSM.

Asked by name and only when nothing above has the secret, so that a role needs the right to read what it uses and no
right to list. Which names are looked for, and which layer wins, is decided in ``layers``. boto3 finds region, endpoint
and role by itself, and is imported at the first question.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

TTL_SECONDS = 300.0
"""A secret is asked for again after this, so that a long-lived process sees that it was rotated."""
_MISSING = {"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"}
_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}
_ACTIONS = {"secretsmanager": "secretsmanager:GetSecretValue", "ssm": "ssm:GetParameter"}  # pragma: allowlist secret
_NAMES = {"secretsmanager": "Secrets Manager", "ssm": "SSM"}  # pragma: allowlist secret

_stores: dict[str, AwsSecrets] = {}


class AwsSecretError(Exception):
    """AWS has a secret and doesn't give it, or can't be asked; the message names secret, right and setting."""


@dataclass
class AwsSecrets:
    """The secrets of one place, and what was read of them."""

    service: Literal["secretsmanager", "ssm"]
    prefix: str
    _client: Any = None
    _read: dict[str, tuple[float, str | None]] = field(default_factory=dict)

    def find(self, names: Iterable[str]) -> tuple[str, str] | None:
        """Give the first of the names that there is: its value, and what it is called there.

        Raises:
            AwsSecretError: One is there and may not be read, and none of the others can take its place.
        """
        refused: AwsSecretError | None = None
        for name in dict.fromkeys(names):
            try:
                value = self._value(self.prefix + name)
            except AwsSecretError as error:
                refused = refused or error
                continue
            if value:
                return value, self.prefix + name
        if refused is not None:
            raise refused
        return None

    def _value(self, name: str) -> str | None:
        now = time.monotonic()
        found = self._read.get(name)
        if found is None or now - found[0] > TTL_SECONDS:
            found = self._read[name] = (now, self._ask(name))
        return found[1]

    def _ask(self, name: str) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._connected()
            if self.service == "ssm":
                return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
            told = client.get_secret_value(SecretId=name)
            return str(told["SecretString"]) if "SecretString" in told else bytes(told["SecretBinary"]).decode()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                return None
            raise AwsSecretError(self._explain(name, code, str(error))) from None
        except BotoCoreError as error:
            raise AwsSecretError(
                f"{_NAMES[self.service]} can't be asked for {name} (BINDERY_SECRETS_FROM={self}): {error}. Region and "
                "role come from boto3's own chain (AWS_REGION, the task's role); a task without a public address needs "
                f"a NAT gateway or the VPC endpoint of {self.service}"
            ) from None

    def _explain(self, name: str, code: str, said: str) -> str:
        if code in _DENIED:
            return (
                f"{_NAMES[self.service]} refuses {name} (BINDERY_SECRETS_FROM={self}): the role of this task needs "
                f"{_ACTIONS[self.service]} on it, and kms:Decrypt where the secret has a key of its own. AWS: {said}"
            )
        return f"{_NAMES[self.service]} doesn't give {name} (BINDERY_SECRETS_FROM={self}): {said}"

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            # Steps start with this: a network without a way out is told within seconds, not minutes.
            config = Config(connect_timeout=3, read_timeout=5, retries={"max_attempts": 4, "mode": "standard"})
            self._client = boto3.client(self.service, config=config)
        return self._client

    def __str__(self) -> str:
        """Write it as the setting has it."""
        return f"{self.service}:{self.prefix}"


def store(setting: str | None) -> AwsSecrets | None:
    """Give the secrets that the setting ``secrets_from`` names, one object per process; None where it names none."""
    service, colon, prefix = (setting or "").partition(":")
    if not colon or not prefix or service not in _NAMES:
        return None  # Settings says what is wrong with it
    if setting not in _stores:
        _stores[str(setting)] = AwsSecrets("ssm" if service == "ssm" else "secretsmanager", prefix)
    return _stores[str(setting)]


def age(setting: str | None) -> int:
    """Give a number that changes when secrets are to be read again; always the same where AWS holds none."""
    return int(time.monotonic() // TTL_SECONDS) if setting else 0


def forget() -> None:
    """Ask for everything anew, in tests and after a rotation that somebody announces."""
    _stores.clear()
