"""What a look at AWS found, and what is said where AWS refuses to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
"""Codes with which AWS's services say that a role may not."""


@dataclass(frozen=True, slots=True)
class Look:
    """One finding."""

    check: str
    status: Literal["ok", "warn", "fail"]
    said: str
    fix: str = ""


Looks = Iterator[Look]
Client = Callable[[str], Any]


def guarded(name: str, right: str, check: Callable[[], Looks]) -> list[Look]:
    """Make one check; say in words where AWS refuses to answer or can't be reached."""
    from botocore.exceptions import BotoCoreError, ClientError

    found: list[Look] = []
    try:
        found.extend(check())
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in DENIED:
            said = f"may not be looked at by this role ({code})"
            found.append(Look(name, "warn", said, f"to have it checked, give the role {right}"))
        else:
            found.append(Look(name, "fail", str(error), "the message is AWS's own; docs/ecs.md tells what is meant"))
    except BotoCoreError as error:
        found.append(
            Look(
                name,
                "fail",
                f"AWS can't be asked: {error}",
                "AWS_REGION and credentials (`aws sts get-caller-identity`)",
            )
        )
    return found
