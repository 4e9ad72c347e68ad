"""Scripts of the pipeline and of `make up`, with programs beside them that only say what they were asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.run import ROOT

DIGESTS = {"dagster": "sha256:" + "a" * 64, "dbt": "sha256:" + "b" * 64}
WELL = "code running Up 10 seconds (healthy)\nsecrets exited Exited (0) 9 seconds ago\ndaemon running Up 8 seconds\n"


@dataclass
class Place:
    """A folder with programs of its own and a record of how they were called."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def program(self, name: str, text: str) -> None:
        self.bin.mkdir(exist_ok=True)
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.folder}/calls\n{text}\n')
        path.chmod(0o755)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def run(
        self, *words: str | Path, path: str = "", cwd: str = str(ROOT), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": path or f"{self.bin}:{os.defpath}", "HOME": str(self.folder), **variables}
        return subprocess.run(
            ["/bin/sh", *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# The server


@dataclass
class Server(Place):
    """A server with an engine that starts whatever it is told, well or not."""

    @property
    def path(self) -> Path:
        return self.folder / "srv"

    def prepare(self) -> None:
        self.program(
            "docker",
            f'case "$*" in ps*) cat {self.folder}/ps-"$(cat {self.folder}/up)" 2>/dev/null || cat {self.folder}/ps ;;\n'
            f"*compose*up*) echo $BINDERY_TAG >{self.folder}/up ;; esac",
        )
        (self.folder / "ps").write_text(WELL)
        self.path.mkdir()

    def deploy(self, tag: str) -> subprocess.CompletedProcess[str]:
        (self.path / "releases" / tag).mkdir(parents=True)
        (self.path / "releases" / tag / "docker-compose.yml").write_text("services: {}\n")
        return self.order("deploy", tag, "registry.example/team/", DIGESTS["dagster"], DIGESTS["dbt"])

    def order(self, action: str, *words: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "deploy" / "ci" / "server.sh"
        return self.run(script, action, self.path, *words, cwd=str(self.folder), HEALTHY_SECONDS="0", KEEP_RELEASES="3")

    @property
    def current(self) -> str:
        return (self.path / "current").readlink().name


@pytest.fixture
def server(tmp_path: Path) -> Server:
    found = Server(tmp_path)
    found.prepare()
    return found


def test_a_release_is_pulled_by_digest_and_started_under_its_tag(server: Server) -> None:
    done = server.deploy("v1.0.0")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "runs: v1.0.0"), done.stderr
    calls = server.calls()
    for name, digest in DIGESTS.items():
        pulled = f"registry.example/team/bindery/{name}@{digest}"
        assert f"docker pull --quiet {pulled}" in calls
        assert f"docker tag {pulled} registry.example/team/bindery/{name}:v1.0.0" in calls
    (up,) = (call for call in calls if " up " in call)
    assert "--no-build" in up
    assert "--project-directory releases/v1.0.0" in up
    assert server.current == "v1.0.0"
    assert (server.path / "drop" / "ratings").is_dir()


def test_the_server_chooses_the_name_of_its_volumes(server: Server) -> None:
    (server.path / ".env").write_text("BINDERY_PORT=3001\nCOMPOSE_PROJECT_NAME=shelf\n")  # pragma: allowlist secret
    assert server.deploy("v1.0.0").returncode == 0
    (looked,) = {call for call in server.calls() if call.startswith("docker ps")}
    assert "label=com.docker.compose.project=shelf" in looked


def test_a_release_that_does_not_get_well_is_taken_back(server: Server) -> None:
    server.deploy("v1.0.0")
    (server.folder / "ps-v1.1.0").write_text("code running Up 1 second (unhealthy)\n")
    done = server.deploy("v1.1.0")
    assert done.returncode == 1
    assert "not well after 0 s: code" in done.stderr
    assert "taking v1.1.0 back: v1.0.0" in done.stderr
    assert server.current == "v1.0.0"
    assert (server.folder / "up").read_text() == "v1.0.0\n"
    assert (server.path / "history").read_text() == "v1.0.0\n"


@pytest.mark.parametrize(
    "line",
    ["code restarting Restarting (1) 2 seconds ago", "migrate exited Exited (3) 1 second ago",
     "code running Up 2 seconds (health: starting)", "code created Created"],
)  # fmt: skip
def test_what_is_not_well(server: Server, line: str) -> None:
    (server.folder / "ps").write_text(f"{WELL}{line}\n")
    done = server.deploy("v1.0.0")
    assert done.returncode == 1
    assert f"not well after 0 s: {line.split(maxsplit=1)[0]}" in done.stderr


def test_rolling_back_goes_to_the_release_before_or_to_the_one_named(server: Server) -> None:
    for tag in ("v1.0.0", "v1.1.0", "v1.2.0"):
        assert server.deploy(tag).returncode == 0
    assert server.order("rollback").stdout == "runs: v1.1.0\n"
    assert server.current == "v1.1.0"
    assert server.order("rollback").stdout == "runs: v1.0.0\n"
    assert server.order("rollback", "v1.2.0").stdout == "runs: v1.2.0\n"
    done = server.order("rollback", "v9.9.9")
    assert (done.returncode, "no release v9.9.9; there are: v1.0.0 v1.1.0 v1.2.0" in done.stderr) == (1, True)
    assert server.current == "v1.2.0"


def test_before_the_first_release_there_is_nothing_to_roll_back_to(server: Server) -> None:
    server.deploy("v1.0.0")
    done = server.order("rollback")
    assert (done.returncode, "no release before this one" in done.stderr) == (1, True)


def test_old_releases_go_with_their_images(server: Server) -> None:
    for number in range(5):
        server.deploy(f"v1.{number}.0")
    assert sorted(path.name for path in (server.path / "releases").iterdir()) == ["v1.2.0", "v1.3.0", "v1.4.0"]
    removed = [call for call in server.calls() if call.startswith("docker image rm")]
    assert [call.split(":")[-1] for call in removed] == ["v1.0.0", "v1.1.0"]


# Signing and deploying, where the key is


def cosign(place: Place, *, signed: bool = True) -> None:
    answer = '[{"critical":{"image":{"docker-manifest-digest":"%s"}}}]'
    lines = "\n".join(f"*bindery/{name}:*) echo '{answer % digest}' ;;" for name, digest in DIGESTS.items())
    place.program("cosign", f'case "$*" in\n{lines}\nesac' if signed else "exit 1")


def test_a_deploy_verifies_first_and_hands_on_what_was_signed(place: Place) -> None:
    cosign(place)
    place.program("ssh", f"cat >>{place.folder}/sent")
    done = deploy(place, "v1.0.0", CI_DEPLOY_USER="robot", CI_DEPLOY_PASSWORD="not-a-password")
    assert done.returncode == 0, done.stderr
    calls = place.calls()
    verified = [number for number, call in enumerate(calls) if call.startswith("cosign verify")]
    asked = [number for number, call in enumerate(calls) if call.startswith("ssh")]
    assert len(verified) == 2
    assert max(verified) < min(asked)
    assert calls[-1].endswith(
        "HEALTHY_SECONDS=180 KEEP_RELEASES=5 sh /srv/bindery/releases/v1.0.0/deploy/ci/server.sh "
        "deploy /srv/bindery v1.0.0 registry.example/team/ "
        f"{DIGESTS['dagster']} {DIGESTS['dbt']}"
    )
    assert all("StrictHostKeyChecking=yes" in calls[number] for number in asked)
    assert "not-a-password" not in "\n".join(calls), "a password is read from standard input"
    assert b"not-a-password" in (place.folder / "sent").read_bytes()
    assert b"docker-compose.yml" in (place.folder / "sent").read_bytes()


@pytest.fixture
def shipped(server: Server) -> Server:
    """A server to which a release was deployed with all that a deploy ships."""
    cosign(server)
    server.program("ssh", f'[ "$*" = "${{*#*tar -x}}" ] || cat >{server.folder}/sent')
    assert deploy(server, "v1.0.0").returncode == 0
    release = server.path / "releases" / "v1.0.0"
    release.mkdir(parents=True)
    with tarfile.open(server.folder / "sent") as sent:
        sent.extractall(release, filter="data")
    (server.path / ".env").write_text("BINDERY_PORT=3001\nCOMPOSE_PROJECT_NAME=shelf\n")  # pragma: allowlist secret
    names = "$BINDERY_REGISTRY $BINDERY_TAG $BINDERY_PULL_POLICY $COMPOSE_PROJECT_NAME $BINDERY_DROP_FOLDER $(pwd)"
    server.program(
        "docker", f'case "$*" in ps*) cat {server.folder}/ps ;; esac; echo "{names}" >>{server.folder}/names'
    )
    done = server.order("deploy", "v1.0.0", "registry.example/team/", DIGESTS["dagster"], DIGESTS["dbt"])
    assert done.returncode == 0, done.stderr
    return server


def test_a_deployed_server_is_backed_up_from_any_folder(shipped: Server) -> None:
    (shipped.folder / "names").unlink()
    done = shipped.run(shipped.path / "operate", "make", "backup", "FILE=night.tar", cwd="/")
    assert (done.returncode, (shipped.path / "backups" / "night.tar").exists()) == (0, True), done.stderr
    release = shipped.path / "releases" / "v1.0.0"
    wanted = f"registry.example/team/ v1.0.0 never shelf {shipped.path}/drop {release}"
    assert set((shipped.folder / "names").read_text().splitlines()) == {wanted}
    assert (release / ".env").read_text() == (shipped.path / ".env").read_text()
    assert os.access(shipped.path / "operate", os.X_OK)


def test_a_drop_folder_of_the_servers_own_is_left_to_its_env_file(shipped: Server) -> None:
    (shipped.path / ".env").write_text("BINDERY_DROP_FOLDER=/srv/incoming\n")
    done = shipped.run(shipped.path / "operate", "sh", "-c", 'echo "drop=$BINDERY_DROP_FOLDER"')
    assert done.stdout == "drop=\n"


def test_every_file_that_operating_needs_is_shipped(shipped: Server) -> None:
    release = shipped.path / "releases" / "v1.0.0"
    for target in ("up", "down", "ps", "logs", "password", "sql", "pipeline", "backup", "restore"):
        done = shipped.run(shipped.path / "operate", "make", "-n", target, "FILE=x.tar")
        assert done.returncode == 0, done.stderr
        for word in set(re.findall(r"(?:tools|deploy)/[a-z/]+\.sh", done.stdout)):
            assert os.access(release / word, os.X_OK), (target, word)
    mounted = re.findall(r"- (\./\S+?):", (release / "docker-compose.yml").read_text())
    assert [path for path in mounted if not (release / path).exists()] == []


def test_before_a_deploy_there_is_nothing_to_operate(server: Server) -> None:
    done = server.order("run", "make", "backup")
    assert (done.returncode, "nothing is deployed" in done.stderr) == (1, True)


def test_what_is_not_signed_reaches_no_server(place: Place) -> None:
    cosign(place, signed=False)
    place.program("ssh", "")
    done = deploy(place, "v1.0.0")
    assert done.returncode == 1
    assert "registry.example/team/bindery/dagster:v1.0.0 isn't signed by this project" in done.stderr
    assert not [call for call in place.calls() if call.startswith("ssh")]


def test_a_rollback_asks_the_release_that_runs(place: Place) -> None:
    place.program("ssh", "")
    assert deploy(place, "", action="rollback").returncode == 0
    (call,) = place.calls()
    assert call.endswith("KEEP_RELEASES=5 sh /srv/bindery/current/deploy/ci/server.sh rollback /srv/bindery ")


@pytest.mark.parametrize(
    ("tag", "variables", "said"),
    [
        ("v1; reboot", {}, "'v1; reboot' is no tag"),
        ("$(reboot)", {}, "is no tag"),
        ("v1.0.0", {"DEPLOY_PATH": "/srv/$(reboot)"}, "a plain absolute path"),
        ("v1.0.0", {"DEPLOY_PATH": "srv"}, "a plain absolute path"),
        ("v1.0.0", {"DEPLOY_HOST": ""}, "DEPLOY_HOST: is not set"),
        ("v1.0.0", {"HEALTHY_SECONDS": "1; reboot"}, "are numbers"),
    ],
)
def test_nothing_but_a_tag_and_a_path_reaches_the_servers_shell(
    place: Place, tag: str, variables: dict[str, str], said: str
) -> None:
    place.program("ssh", "")
    done = deploy(place, tag, **variables)
    assert done.returncode == 2
    assert said in done.stderr
    assert place.calls() == []


def deploy(place: Place, tag: str, action: str = "deploy", **variables: str) -> subprocess.CompletedProcess[str]:
    known = {
        "DEPLOY_HOST": "robot@server.example",
        "DEPLOY_SSH_KEY": "/key",
        "DEPLOY_KNOWN_HOSTS": "/hosts",
        "BINDERY_REGISTRY": "registry.example/team/",
        "COSIGN_PUBLIC_KEY": "public",
        "CI_REGISTRY": "registry.example",
    }
    return place.run("deploy/ci/deploy.sh", action, tag, **{**known, **variables})


def test_only_digests_are_signed(place: Place) -> None:
    cosign(place)
    done = place.run("deploy/ci/sign.sh", "sign", "registry.example/x:v1", "bom.json", COSIGN_PRIVATE_KEY="k")
    assert (done.returncode, "has no digest" in done.stderr) == (2, True)
    done = place.run("deploy/ci/sign.sh", "sign", f"registry.example/x@{DIGESTS['dbt']}", "bom.json")
    assert done.returncode == 2
    assert "cosign generate-key-pair" in done.stderr
    assert place.calls() == []


def test_a_release_is_a_second_name_for_what_was_signed(place: Place) -> None:
    cosign(place)
    place.program("docker", "")
    variables = {"BINDERY_REGISTRY": "registry.example/team/", "BINDERY_TAG": "abc", "COSIGN_PUBLIC_KEY": "public"}
    assert place.run("deploy/ci/release.sh", "v1.2.3", **variables).returncode == 0
    named = [call for call in place.calls() if call.startswith("docker")]
    assert named == [
        f"docker buildx imagetools create --tag registry.example/team/bindery/{name}:v1.2.3 "
        f"registry.example/team/bindery/{name}@{digest}"
        for name, digest in DIGESTS.items()
    ]


@pytest.mark.parametrize(("found", "code"), [("", 0), ("exit 1", 1)])
def test_a_critical_hole_with_a_fix_ends_the_scan(place: Place, found: str, code: int) -> None:
    place.program("trivy", f'case "$*" in *--output*) : >"$(echo "$*" | sed \'s/.*--output \\([^ ]*\\).*/\\1/\')" ;; '
                           f"*--exit-code*) {found or ':'} ;; esac")  # fmt: skip
    done = place.run(ROOT / "deploy/ci/scan.sh", "fs", "uv.lock", cwd=str(place.folder))
    assert done.returncode == code, done.stderr
    last = place.calls()[-1]
    assert "--severity CRITICAL --ignore-unfixed --exit-code 1" in last


# make up


def tools(place: Place, *names: str) -> str:
    """A PATH with these programs of the system and the place's own, and nothing else."""
    place.bin.mkdir(exist_ok=True)
    for name in ("sh", "grep", "sort", "id", *names):
        found = shutil.which(name)
        assert found
        (place.bin / name).symlink_to(found)
    return str(place.bin)


PLUGIN = 'case "$*" in "compose version") ;; version*) echo 27.0 ;; '
ENGINE_GONE = 'version*) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;; '


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({}, "Docker isn't installed; https://docs.docker.com/engine/install says how, and make run needs none"),
        ({"docker": "exit 1"}, "docker has no compose (version 2): install the package docker-compose-plugin"),
        ({"docker": "exit 1", "docker-compose": "echo 1.29.2"}, "docker has no compose (version 2)"),
        ({"docker": f'case "$*" in "compose version") ;; {ENGINE_GONE} esac'}, "no Docker engine answers at tcp://127.0.0.1:1"),
        (
            {"docker": 'case "$*" in "compose version") ;; *) echo "permission denied" >&2; exit 1 ;; esac'},
            "this user may not use Docker: sudo usermod -aG docker",
        ),
        ({"docker-compose": "case $1 in version) echo 2.26.1 ;; *) exit 1 ;; esac"}, "no Docker engine answers at"),
        (
            {"docker": PLUGIN + 'compose\\ config*) echo nowhere.example/x:1 ;; *) exit 17 ;; esac'},
            "no image nowhere.example/x:1: it could be neither pulled nor built",
        ),
    ],
    ids=["nothing", "no compose", "compose 1", "no engine", "no right", "standalone without engine", "no image"],
)  # fmt: skip
def test_one_sentence_says_what_is_missing(place: Place, programs: dict[str, str], said: str) -> None:
    path = tools(place)
    for name, text in programs.items():
        place.program(name, text)
    done = place.run("tools/up.sh", path=path, DOCKER_HOST="tcp://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"bindery: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("standalone", [False, True])
def test_compose_is_the_plugin_or_the_program(place: Place, standalone: bool) -> None:
    path = tools(place)
    if standalone:
        place.program("docker", 'case "$*" in compose*) exit 1 ;; esac')
        place.program("docker-compose", 'case "$*" in version*) echo v2.29.0 ;; esac')
    else:
        place.program("docker", "")
    done = place.run("tools/up.sh", path=path)
    assert done.returncode == 0, done.stderr
    assert place.calls()[-1] == f"docker{'-' if standalone else ' '}compose up --detach"
    assert place.run("tools/up.sh", "--which", path=path).stdout == f"docker{'-' if standalone else ' '}compose\n"


def test_another_failure_keeps_composes_own_words_and_code(place: Place) -> None:
    path = tools(place)
    place.program("docker", PLUGIN + 'compose\\ up*) echo "port is already allocated" >&2; exit 17 ;; esac')
    done = place.run("tools/up.sh", path=path)
    assert done.returncode == 17
    assert done.stderr.splitlines() == [
        "port is already allocated",
        "bindery: compose ended with code 17; what it said is above, and make ps and make logs say more",
    ]


@pytest.mark.parametrize(
    ("published", "site", "said"),
    [
        ("127.0.0.1:3000", "http://:3000", "http://localhost:3000"),
        ("127.0.0.1:3001", "http://:3000", "http://localhost:3001"),
        ("0.0.0.0:80", "http://:3000", "http://localhost"),
        ("[::]:3000", "http://:3000", "http://localhost:3000"),
        ("10.0.0.7:3000", "http://:3000", "http://10.0.0.7:3000"),
        ("0.0.0.0:443", "https://data.example.org:3000", "https://data.example.org"),
        ("0.0.0.0:8443", '"https://data.example.org:3000"', "https://data.example.org:8443"),
    ],
)
def test_the_address_of_the_ui_is_what_compose_knows(place: Place, published: str, site: str, said: str) -> None:
    path = tools(place, "sed", "head")
    place.program(
        "docker",
        f'{PLUGIN}"compose port proxy 3000") echo "{published}" ;;\n'
        f"\"compose config\") printf '      SITE: %s\\n' '{site}' ;; esac",
    )
    done = place.run("tools/up.sh", "--address", path=path)
    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr


def test_without_a_proxy_there_is_no_address(place: Place) -> None:
    path = tools(place, "sed", "head")
    place.program("docker", f'{PLUGIN}"compose port"*) exit 1 ;; esac')
    done = place.run("tools/up.sh", "--address", path=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "make up starts it" in done.stderr


def test_make_up_says_the_address_that_compose_knows(place: Place) -> None:
    place.program("docker", f'{PLUGIN}"compose port"*) echo 127.0.0.1:3007 ;; esac')
    done = make(place, "up")
    assert done.stdout == "http://localhost:3007   logins: make password\n", done.stderr


# make backup, make restore


def make(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{place.bin}:{os.defpath}", "HOME": str(place.folder)}
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def standalone(place: Place) -> None:
    """A machine whose compose is a program of its own, which says what backups are made of."""
    place.program("docker", 'case "$*" in compose*) exit 1 ;; esac')
    place.program(
        "docker-compose", 'case "$*" in version*) echo 2.26.1 ;; *config*) echo "{}" ;; *) cat >/dev/null ;; esac'
    )


@pytest.mark.parametrize("by", ["make", "script"])
def test_a_backup_is_made_with_the_compose_that_there_is(place: Place, by: str) -> None:
    standalone(place)
    file = place.folder / "b.tar"
    done = make(place, "backup", f"FILE={file}") if by == "make" else bash(place, "deploy/backup/backup.sh", file)
    assert (done.returncode, file.exists()) == (0, True), done.stderr
    asked = [call for call in place.calls() if " exec " in call or " run " in call]
    assert sorted(call.split()[0] for call in asked) == ["docker-compose", "docker-compose"]


@pytest.mark.parametrize("by", ["make", "script"])
def test_a_backup_is_brought_back_with_the_compose_that_there_is(place: Place, by: str) -> None:
    standalone(place)
    file = place.folder / "b.tar"
    file.write_text("a backup")
    done = make(place, "restore", f"FILE={file}") if by == "make" else bash(place, "deploy/backup/restore.sh", file)
    assert done.returncode == 0, done.stderr
    assert "restored" in done.stdout
    assert [call for call in place.calls() if call.startswith("docker compose") and "version" not in call] == []


def bash(place: Place, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{place.bin}:{os.defpath}", "HOME": str(place.folder)}
    command = ["bash", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
