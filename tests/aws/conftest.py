"""What the tests against AWS's stand-in share: the server, and a clean account in it."""

from __future__ import annotations

from tests.aws.moto import aws, moto_server

__all__ = ["aws", "moto_server"]
