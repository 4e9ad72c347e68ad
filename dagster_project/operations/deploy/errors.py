"""What goes wrong while deploying, in words for whoever deploys."""

from __future__ import annotations


class DeployError(Exception):
    """A step can't be done; the message says which, why, and what to change. Repeating the command goes on."""

    exit_code = 1


class DeployRefusedError(DeployError):
    """What is asked for makes no sense, or needs a yes that wasn't given."""

    exit_code = 2
