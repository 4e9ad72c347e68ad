"""What containers of runs and steps may have, and that our code, compose and the engine proxy agree on it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_project.execution.compute import CLASSES, Compute, requested
from dagster_project.execution.docker import containers
from dagster_project.execution.docker.containers import ContainerError, Place, environment, options
from dagster_project.execution.engine_proxy.__main__ import ours, parse
from dagster_project.execution.labels import RUN, Kind
from dagster_project.settings import Settings
from tests.run import ROOT

PLACE = Place("shop", "example/bindery/dagster:1", "example/bindery/dbt:1", "abc123")
VARIABLES = {"PATH": "/bin", "HOME": "/root", "BINDERY_SOURCES": "sample", "AWS_SECRET_ACCESS_KEY": "x" * 40}


def compose(**variables: str) -> dict[str, Any]:
    """Read docker-compose.yml with its variables as they are without any setting."""
    text = (ROOT / "docker-compose.yml").read_text()
    values = {"COMPOSE_PROJECT_NAME": "shop", "PWD": "/clone", **variables}

    def value(match: re.Match[str]) -> str:
        name, how, default = match.group(1), match.group(2), match.group(3) or ""
        if how == ":+":
            return default if values.get(name) else ""
        return values.get(name) or default

    inner = re.compile(r"\$\{([A-Z_]+)(?:(:[-+])([^${}]*))?\}")
    while (changed := inner.sub(value, text)) != text:
        text = changed
    found: dict[str, Any] = yaml.safe_load(text)
    return found


COMPOSE = compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if "bindery/" in service["image"]}
PROFILES = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
ONE_SHOT = {"secrets", "migrate", "dbt", "backup"}


@pytest.mark.parametrize("kind", ["run", "step"])
def test_a_container_has_limits_and_nothing_it_could_do_without(kind: Kind) -> None:
    made = options(PLACE, kind, CLASSES["small"], {RUN: "r"}, {"BINDERY_SOURCES": "sample"})
    assert made["user"] == "10001:10001"
    assert made["read_only"] is True
    assert made["init"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert made["mem_limit"] == made["memswap_limit"] == 2**30
    assert made["nano_cpus"] == 10**9
    assert 0 < made["pids_limit"] <= 512
    assert made["log_config"].config == {"max-size": "10m", "max-file": "3"}
    assert all(("nosuid" in how and "nodev" in how) or path.startswith("/home") for path, how in made["tmpfs"].items())
    assert made["labels"] == {
        "bindery.project": "shop",
        "bindery.kind": kind,
        "bindery.commit": "abc123",
        "bindery.compute": "small",
        "bindery.run": "r",
    }
    refused = {"privileged", "cap_add", "devices", "pid_mode", "ipc_mode", "binds", "volumes", "network_mode", "ports"}
    assert not refused & set(made)
    assert "device_requests" not in made


def test_no_container_asks_for_more_cores_than_there_are() -> None:
    made = options(PLACE, "step", Compute("wide", cpu=4096, memory=2**30), {}, {})
    assert made["nano_cpus"] == (os.cpu_count() or 1) * 10**9
    assert options(PLACE, "step", requested({"bindery/compute": '{"cpu": 0.25}'}), {}, {})["nano_cpus"] == 250_000_000


def test_a_gpu_is_asked_for_as_the_engine_wants_it() -> None:
    (request,) = options(PLACE, "step", CLASSES["gpu"], {}, {})["device_requests"]
    assert (request.count, request.capabilities) == (1, [["gpu"]])


def test_only_runs_reach_the_engine() -> None:
    assert PLACE.networks("run") == ["shop-platform", "shop-engine"]
    assert PLACE.networks("step") == ["shop-platform"]
    assert options(PLACE, "run", CLASSES["small"], {}, {})["network"] == "shop-platform"


def test_secrets_are_mounted_read_only_and_never_among_the_variables() -> None:
    mounts = {mount["Target"]: mount for mount in options(PLACE, "step", CLASSES["small"], {}, {})["mounts"]}
    assert mounts["/run/bindery/secrets"]["Source"] == "shop-secrets"
    assert mounts["/run/bindery/secrets"]["ReadOnly"] is True
    assert {mount["Type"] for mount in mounts.values()} == {"volume"}
    assert not [path for path in mounts if "admin" in path or "front" in path]
    assert environment(VARIABLES) == {"BINDERY_SOURCES": "sample"}


@pytest.mark.parametrize(
    "name",
    [
        "POSTGRES_LOADER_PASSWORD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "DOCKER_HOST", "SHOP_TOKEN", "LD_PRELOAD",
        "PYTHONPATH", "BINDERY_SHOP_TOKEN", "BINDERY_POSTGRES_API_PASSWORD", "BINDERY_MAIL_SECRET", "BINDERY_API_KEY",
    ],
)  # fmt: skip
def test_what_may_be_a_secret_is_not_handed_on(name: str) -> None:
    assert environment({name: "x" * 40, "PGPASSFILE": "/run/p"}) == {"PGPASSFILE": "/run/p"}


@pytest.mark.parametrize("name", ["BINDERY_DATABASE_URL", "BINDERY_DAGSTER_URL"])
def test_a_password_in_a_url_is_refused_without_being_shown(name: str) -> None:
    with pytest.raises(ContainerError) as caught:
        environment({name: "postgresql://postgres:hunter2hunter2@db/x"})  # pragma: allowlist secret
    assert str(caught.value).startswith(f"{name} holds a password")
    assert "hunter2" not in str(caught.value)
    assert environment({name: "postgresql://db:5432/x"})


def test_an_installation_without_compose_says_what_compose_sets() -> None:
    with pytest.raises(ContainerError, match="BINDERY_DAGSTER_IMAGE and BINDERY_DBT_IMAGE"):
        Place.of(Settings(dagster_image=None, dbt_image=None))
    place = Place.of(Settings(project="shop", dagster_image="a:1", dbt_image="b:1", code_version="c"))
    assert place == Place("shop", "a:1", "b:1", "c")
    assert place.image(requested({})) == "a:1"
    assert place.image(requested({"bindery/image": "dbt"})) == "b:1"
    assert place.image(requested({"bindery/image": "tool:3"})) == "tool:3"


# Compose, the engine proxy and the code name the same things


def test_volumes_of_steps_are_those_of_compose() -> None:
    declared = {name: volume["name"] for name, volume in COMPOSE["volumes"].items()}
    assert {name: declared[name] for name in containers.VOLUMES} == {
        name: PLACE.named(name) for name in containers.VOLUMES
    }
    mounted = {
        (source, target, how == "ro")
        for source, target, how in ((*entry.split(":"), "rw")[:3] for entry in SERVICES["code"]["volumes"])
    }
    read_only = {name: read_only for name, (_, read_only) in containers.VOLUMES.items()}
    assert {(source, target) for source, target, _ in mounted} == {
        (name, path) for name, (path, _) in containers.VOLUMES.items()
    }
    assert [source for source, _, ro in mounted if ro and not read_only[source]] == []


def test_networks_of_runs_are_those_of_compose() -> None:
    declared = {network["name"] for network in COMPOSE["networks"].values()}
    assert set(PLACE.networks("run")) < declared == {PLACE.named(name) for name in COMPOSE["networks"]}
    assert {name for name, network in COMPOSE["networks"].items() if network.get("internal")} == {"engine", "supervise"}


@pytest.mark.parametrize("service", ["engine", "engine-supervise"])
def test_the_engine_proxy_allows_what_containers_are_made_with_and_no_more(service: str) -> None:
    words = [*SERVICES[service]["entrypoint"], *SERVICES[service]["command"]]
    known = ours(parse(words[3:]))
    assert words[:3] == ["python", "-m", "dagster_project.execution.engine_proxy"]
    assert known.project == "shop"
    assert known.networks == set(PLACE.networks("run"))
    assert known.volumes == {PLACE.named(name): not read_only for name, (_, read_only) in containers.VOLUMES.items()}
    assert known.images == {SERVICES[name]["image"].rpartition(":")[0] for name in ("code", "dbt")}
    assert not known.allow_gpu
    assert "--allow-gpu=${BINDERY_GPU:-no}" in (ROOT / "docker-compose.yml").read_text()
    assert ours(parse([*words[3:], "--allow-gpu=yes"])).allow_gpu


def test_each_engine_proxy_has_one_set_of_rights_in_one_network() -> None:
    assert SERVICES["engine"]["command"] == ["--supervise-port=0"]
    assert SERVICES["engine"]["networks"] == ["engine"]
    assert SERVICES["engine-supervise"]["command"] == ["--launch-port=0"]
    assert SERVICES["engine-supervise"]["networks"] == ["supervise"]
    holders = {
        name
        for name, service in SERVICES.items()
        if any("docker.sock" in str(each) for each in service.get("volumes", []))
    }
    assert holders == {"engine", "engine-supervise"}
    assert {name for name, service in SERVICES.items() if "supervise" in service.get("networks", [])} == {
        "engine-supervise",
        "supervisor",
    }
    assert {name for name, service in SERVICES.items() if "engine" in service.get("networks", [])} == {
        "engine",
        "daemon",
        "webserver",
    }


def test_images_and_variables_of_services_are_those_that_steps_get() -> None:
    assert len({SERVICES[name]["image"] for name in OURS - set(PROFILES)}) == 2
    for name in ("code", "webserver", "daemon", "supervisor"):
        own = SERVICES[name]["environment"]
        assert own["BINDERY_PROJECT"] == "shop"
        assert own["BINDERY_DAGSTER_IMAGE"] == own["DAGSTER_CURRENT_IMAGE"] == SERVICES[name]["image"]
        assert own["BINDERY_DBT_IMAGE"] == SERVICES["dbt"]["image"]
        assert environment(own) == {key: value for key, value in own.items() if key != "DOCKER_HOST"}


# Every service


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 512
    assert service["mem_limit"]
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert service["labels"] == {"bindery.project": "shop"}
    assert not {"privileged", "devices", "pid", "ipc", "userns_mode", "env_file"} & set(service)
    assert not str(service.get("user", "10001")).startswith(("0", "root"))
    assert service.get("network_mode", "none") == "none"


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT - {"daemon", "supervisor"}))
def test_every_service_that_listens_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}


def test_dependencies_wait_until_what_they_need_is_there() -> None:
    for name, service in SERVICES.items():
        needs = service.get("depends_on", {})
        assert isinstance(needs, dict), name
        for other, how in needs.items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, (name, other)


def test_one_port_is_published_and_to_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.pop("registry") == ["127.0.0.1:5000:5000"]
    assert ports == {"proxy": ["127.0.0.1:3000:3000"]}
    assert set(SERVICES["proxy"]["networks"]) == {"front"}
    assert "front" not in SERVICES["postgres"]["networks"]


def test_only_what_needs_it_mounts_the_secrets_of_the_administrator() -> None:
    def holders(volume: str) -> dict[str, bool]:
        mounts = {name: [str(each) for each in service.get("volumes", [])] for name, service in SERVICES.items()}
        found = {name: [m for m in each if m.split(":")[0] == volume] for name, each in mounts.items()}
        return {name: each[0].endswith(":ro") for name, each in found.items() if each}

    assert holders("secrets-admin") == {"secrets": False, "postgres": True, "migrate": True, "backup": True}
    # Caddy keeps its certificates beside the hashes.
    assert holders("secrets-front") == {"secrets": False, "proxy": False}
    assert [name for name, read_only in holders("secrets").items() if not read_only] == ["secrets"]


def test_services_of_profiles_start_when_asked_for_and_reach_what_they_need() -> None:
    assert PROFILES == {"backup": ["backup"], "gui": ["tools"], "registry": ["registry"]}
    assert not [name for name, service in SERVICES.items() if set(service.get("depends_on", {})) & set(PROFILES)]
    assert SERVICES["registry"]["networks"] == ["registry"], "neither the database nor the engine"
    assert SERVICES["registry"]["environment"]["REGISTRY_AUTH"] == "htpasswd"
    assert SERVICES["gui"]["volumes"] == ["secrets-gui:/run/bindery/gui:ro"], "the reader's password, and no other"
    assert "ports" not in SERVICES["gui"], "the proxy asks who it is"
    proxy = (ROOT / "deploy" / "proxy" / "Caddyfile").read_text()
    assert proxy.index("basicauth") < proxy.index("@others not vars {http.auth.user.id} operator")
    assert proxy.index("respond @others") < proxy.index("reverse_proxy gui:8080")


def test_no_variable_of_a_service_holds_a_password() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|PASSPHRASE|_KEY$", key)
            assert secret is None or str(value).startswith("/run/bindery/"), (name, key)
            assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), (name, key)


def test_each_image_is_built_by_one_service_and_never_asked_of_a_registry() -> None:
    built = {service["image"]: name for name, service in SERVICES.items() if "build" in service}
    assert built == {
        SERVICES["code"]["image"]: "secrets",
        SERVICES["dbt"]["image"]: "dbt",
        "bindery/gui:0.1.0-shop": "gui",
    }
    assert len([name for name, service in SERVICES.items() if "build" in service]) == 3
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}
    registry = compose(BINDERY_REGISTRY="registry.example/team/", BINDERY_PULL_POLICY="missing", BINDERY_TAG="2.0.0")
    assert registry["services"]["code"]["image"] == "registry.example/team/bindery/dagster:2.0.0"
    assert registry["services"]["code"]["pull_policy"] == "missing"


def test_two_clones_share_neither_names_nor_images() -> None:
    other = compose(COMPOSE_PROJECT_NAME="other", BINDERY_PORT="3001", BINDERY_DROP_FOLDER="/somewhere")

    def names(read: dict[str, Any]) -> set[str]:
        return {
            *(each["name"] for kind in ("volumes", "networks") for each in read[kind].values()),
            *(each["image"] for each in read["services"].values() if "bindery/" in each["image"]),
        }

    assert not names(COMPOSE) & names(other)
    assert other["services"]["proxy"]["ports"] == ["127.0.0.1:3001:3000"]
    assert other["volumes"]["drop"]["driver_opts"]["device"] == "/somewhere"
    assert COMPOSE["volumes"]["drop"]["driver_opts"]["device"] == "/clone/drop"


def test_the_drop_folder_of_a_fresh_clone_is_there() -> None:
    for folder in ("drop/sample", "drop/ratings"):
        assert Path(ROOT / folder / ".gitkeep").exists()
