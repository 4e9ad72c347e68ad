"""What the installer understands of pip's configuration, and what it tells uv."""

from __future__ import annotations

from pathlib import Path

import pytest
from pip_settings import PUBLIC_INDEX, PipSettings, read_pip_settings, without_credentials
from uv_program import UvUnavailableError, wheel_for_this_machine

INDEX = "https://mirror.example/simple"
EXTRA = "https://extra.example/simple"


def read(tmp_path: Path, **variables: str) -> PipSettings:
    # An empty home and an empty system: only what the test gives is read.
    return read_pip_settings({"HOME": str(tmp_path), **variables}, system=tmp_path / "system", prefix=tmp_path / "py")


def for_uv(settings: PipSettings, **environment: str) -> dict[str, str]:
    certificates = ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS")
    return {name: value for name, value in settings.for_uv(environment).items() if name not in certificates}


def test_a_machine_that_says_nothing_gets_the_public_index() -> None:
    assert for_uv(PipSettings()) == {}
    assert PipSettings().indexes == (PUBLIC_INDEX,)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PIP_INDEX_URL": INDEX + "/"}, {"UV_DEFAULT_INDEX": INDEX}),
        (
            {"PIP_INDEX_URL": INDEX, "PIP_EXTRA_INDEX_URL": EXTRA},
            {"UV_INDEX": INDEX, "UV_DEFAULT_INDEX": EXTRA, "UV_INDEX_STRATEGY": "unsafe-first-match"},
        ),
        ({"PIP_CERT": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"REQUESTS_CA_BUNDLE": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"PIP_CERT": "/ca.pem", "CURL_CA_BUNDLE": "/other.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"PIP_CLIENT_CERT": "/me.pem"}, {"SSL_CLIENT_CERT": "/me.pem"}),
        ({"PIP_TRUSTED_HOST": "a.example b.example:8080"}, {"UV_INSECURE_HOST": "a.example b.example:8080"}),
        ({"PIP_DEFAULT_TIMEOUT": "180"}, {"UV_HTTP_TIMEOUT": "180"}),
        ({"PIP_TIMEOUT": "90"}, {"UV_HTTP_TIMEOUT": "90"}),
        (
            {"PIP_PROXY": "http://proxy.example:3128"},
            {"HTTP_PROXY": "http://proxy.example:3128", "HTTPS_PROXY": "http://proxy.example:3128"},
        ),
        ({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/a /b"}, {"UV_NO_INDEX": "1", "UV_FIND_LINKS": "/a,/b"}),
        ({"PIP_FIND_LINKS": "/opt/wheels"}, {}),
        ({"PIP_EXTRA_INDEX_URL": "file:///not/there/simple"}, {}),
    ],
)
def test_each_variable_of_pip_reaches_uv(variables: dict[str, str], expected: dict[str, str], tmp_path: Path) -> None:
    assert for_uv(read(tmp_path, **variables)) == expected


@pytest.mark.parametrize(
    "given",
    [{"UV_DEFAULT_INDEX": "https://mine"}, {"UV_INDEX_URL": "https://mine"}, {"UV_FIND_LINKS": "/mine"}],
)
def test_what_is_set_for_uv_itself_wins(given: dict[str, str], tmp_path: Path) -> None:
    settings = read(tmp_path, PIP_INDEX_URL=INDEX, PIP_CERT="/pip.pem")
    added = for_uv(settings, SSL_CERT_FILE="/mine.pem", **given)
    assert added == {}


def test_a_proxy_in_the_environment_wins_in_either_spelling(tmp_path: Path) -> None:
    settings = read(tmp_path, PIP_PROXY="http://pip.example")
    assert for_uv(settings, https_proxy="http://mine.example") == {"HTTP_PROXY": "http://pip.example"}


def test_files_are_read_in_the_order_of_pip(tmp_path: Path) -> None:
    user = tmp_path / ".config/pip/pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://user.example/simple\ncert = /user.pem\ntimeout = 7\n")
    legacy = tmp_path / ".pip/pip.conf"
    legacy.parent.mkdir()
    legacy.write_text("[global]\nindex-url = https://legacy.example/simple\ntrusted-host = legacy.example\n")
    machine = tmp_path / "system/etc/pip.conf"
    machine.parent.mkdir(parents=True)
    machine.write_text("[global]\nindex-url = https://machine.example/simple\nclient-cert = /machine.pem\n")
    named = tmp_path / "named.conf"
    named.write_text("[install]\ncert = /named.pem\n")

    settings = read(tmp_path, PIP_CONFIG_FILE=str(named), PIP_TIMEOUT="9")

    assert settings == PipSettings(
        indexes=("https://user.example/simple",),
        certificates="/named.pem",
        client_certificate="/machine.pem",
        trusted_hosts=("legacy.example",),
        timeout="9",
    )


def test_no_file_is_read_where_the_user_says_so(tmp_path: Path) -> None:
    file = tmp_path / ".pip/pip.conf"
    file.parent.mkdir()
    file.write_text(f"[global]\nindex-url = {INDEX}\n")
    assert read(tmp_path).indexes == (INDEX,)
    assert read(tmp_path, PIP_CONFIG_FILE="/dev/null").indexes == (PUBLIC_INDEX,)


def test_a_file_that_is_no_configuration_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / ".pip/pip.conf"
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe index-url")
    assert read(tmp_path).indexes == (PUBLIC_INDEX,)


def test_passwords_in_urls_are_not_shown() -> None:
    text = "could not reach https://me:pass@mirror.example/simple"  # pragma: allowlist secret
    assert without_credentials(text) == "could not reach https://***@mirror.example/simple"


@pytest.mark.parametrize(
    ("system", "machine", "libc", "expected"),
    [
        ("Linux", "x86_64", "glibc", "uv-1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
        ("Linux", "aarch64", "", "uv-1-py3-none-musllinux_1_1_aarch64.whl"),
        ("Darwin", "arm64", "", "uv-1-py3-none-macosx_11_0_arm64.whl"),
    ],
)
def test_the_wheel_of_uv_fits_the_machine(system: str, machine: str, libc: str, expected: str) -> None:
    names = [
        "uv-1-py3-none-macosx_10_12_x86_64.whl",
        "uv-1-py3-none-macosx_11_0_arm64.whl",
        "uv-1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "uv-1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "uv-1-py3-none-musllinux_1_1_aarch64.whl",
        "uv-1-py3-none-win_amd64.whl",
    ]
    assert wheel_for_this_machine(names, system, machine, libc) == expected


def test_a_machine_that_uv_is_not_built_for_is_named() -> None:
    with pytest.raises(UvUnavailableError, match="no wheel for Linux mips"):
        wheel_for_this_machine(["uv-1-py3-none-win_amd64.whl"], "Linux", "mips", "glibc")
