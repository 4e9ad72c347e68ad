"""Secrets from AWS as a layer of settings: in Secrets Manager, in SSM, rotated, missing, refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.settings import MissingSettingError, Settings, SettingsError, aws_secrets, get_settings
from tests.aws.moto import Moto


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    aws_secrets.forget()
    yield
    aws_secrets.forget()


@pytest.fixture
def manager(aws: Moto) -> Any:
    return aws.client("secretsmanager")


def keep(manager: Any, name: str, value: str) -> None:
    manager.create_secret(Name=name, SecretString=value)


def kept(tmp_path: Path, where: str = "secretsmanager:bindery/", **more: Any) -> Settings:
    return Settings(data_dir=tmp_path, secrets_from=where, **more)


def test_passwords_and_secrets_of_cards_come_from_secrets_manager(manager: Any, tmp_path: Path) -> None:
    keep(manager, "bindery/postgres_loader_password", "p@ss/word")
    keep(manager, "bindery/GUTENBERG_TOKEN", "token")
    keep(manager, "bindery/alert_urls", "json://hooks.example.org/x")
    found = kept(tmp_path, database_url="postgresql://db.example.org:5432/bindery?sslmode=require")
    url = found.dsn("loader").get_secret_value()
    assert url == "postgresql://bindery_loader:p%40ss%2Fword@db.example.org:5432/bindery?sslmode=require"
    assert found.resolve_secret("GUTENBERG_TOKEN").get_secret_value() == "token"
    assert found.alert_urls is not None
    assert found.alert_urls.get_secret_value() == "json://hooks.example.org/x"


def test_secrets_come_from_ssm(aws: Moto, tmp_path: Path) -> None:
    aws.client("ssm").put_parameter(Name="/bindery/GUTENBERG_TOKEN", Value="token", Type="SecureString")
    found = kept(tmp_path, "ssm:/bindery/")
    assert found.resolve_secret("GUTENBERG_TOKEN").get_secret_value() == "token"


def test_a_file_wins_and_a_setting_that_is_no_secret_is_not_asked_for(manager: Any, tmp_path: Path) -> None:
    keep(manager, "bindery/GUTENBERG_TOKEN", "from AWS")
    keep(manager, "bindery/project", "elsewhere")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "gutenberg_token").write_text("from a file\n")
    found = kept(tmp_path)
    assert found.resolve_secret("GUTENBERG_TOKEN").get_secret_value() == "from a file"
    assert found.project == "bindery"


def test_a_rotated_secret_is_seen(manager: Any, aws: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(manager, "bindery/alert_urls", "json://first.example.org")
    monkeypatch.setenv("BINDERY_SECRETS_FROM", "secretsmanager:bindery/")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    first = get_settings()
    rotated = "json://second.example.org"
    manager.put_secret_value(SecretId="bindery/alert_urls", SecretString=rotated)  # pragma: allowlist secret
    assert get_settings() is first, "within minutes nobody is asked again"
    monkeypatch.setattr(aws_secrets, "TTL_SECONDS", 1e-6)
    second = get_settings().alert_urls
    assert second is not None
    assert second.get_secret_value() == "json://second.example.org"


def test_a_missing_secret_says_where_it_could_be(aws: Moto, tmp_path: Path) -> None:
    with pytest.raises(MissingSettingError, match=r"Or keep it in AWS as bindery/GUTENBERG_TOKEN\.$"):
        kept(tmp_path).resolve_secret("GUTENBERG_TOKEN")
    assert kept(tmp_path).find_secret("GUTENBERG_TOKEN") is None


class Refusing:
    """What the service's client does where the role may not read."""

    def get_secret_value(self, SecretId: str) -> Any:  # noqa: N803
        from botocore.exceptions import ClientError

        said = f"User: arn:aws:sts::1:assumed-role/x is not authorized to perform GetSecretValue on {SecretId}"
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": said}}, "GetSecretValue")


def test_a_missing_right_is_named(tmp_path: Path, aws: Moto, caplog: pytest.LogCaptureFixture) -> None:
    where = aws_secrets.store("secretsmanager:bindery/")
    assert where is not None
    where._client = Refusing()
    with caplog.at_level(logging.WARNING):
        found = kept(tmp_path)
    assert found.alert_urls is None, "what a step doesn't use doesn't stop it"
    assert "BINDERY_ALERT_URLS is taken as not set" in caplog.text
    with pytest.raises(SettingsError) as caught:
        found.resolve_secret("GUTENBERG_TOKEN")
    said = str(caught.value)
    for word in ("bindery/GUTENBERG_TOKEN", "secretsmanager:GetSecretValue", "BINDERY_SECRETS_FROM", "kms:Decrypt"):
        assert word in said


def test_a_service_out_of_reach_is_told_with_the_way_there(tmp_path: Path, aws: Moto, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(SettingsError, match="VPC endpoint of ssm"):
        kept(tmp_path, "ssm:/bindery/").resolve_secret("GUTENBERG_TOKEN")


@pytest.mark.parametrize("where", ["vault:bindery/", "secretsmanager:", "ssm:bindery/", "bindery/"])
def test_a_place_that_is_none_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BINDERY_SECRETS_FROM"):
        kept(tmp_path, where)


def test_without_the_setting_boto3_is_not_even_imported() -> None:
    code = (
        "import sys; from dagster_project.settings import get_settings; get_settings().find_secret('X'); "
        "sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
