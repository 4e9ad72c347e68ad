"""``bindery deploy aws``: the platform on AWS, from the checkout to services that run.

Words and options only; what is done is in ``operations.deploy``, what AWS holds in ``deploy/terraform``.
"""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dagster_project.operations.deploy.flow import Deploy

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(value: str) -> float:
    """Read a time: ``90s``, ``10m``, ``2h``."""
    match = re.fullmatch(r"([1-9]\d*)([smh])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} isn't a time such as 90s, 10m or 2h")
    return float(int(match[1]) * UNITS[match[2]])


def folder_option(function: Any) -> Any:
    """Add the options that say which platform is meant."""
    folder = click.option(
        "--terraform",
        "folder",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Folder that describes the platform. By default deploy/terraform of the checkout.",
    )
    values = click.option(
        "--values",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File of variables: one for each platform. By default terraform.tfvars in that folder.",
    )
    return folder(values(function))


@click.group()
def deploy() -> None:
    """Bring the platform to a cloud."""


@deploy.group(invoke_without_command=True)
@folder_option
@click.option("--plan", is_flag=True, help="Show what would change; build, push and change nothing.")
@click.option("--changed", is_flag=True, help="Deploy the checkout with changes that aren't committed.")
@click.pass_context
def aws(context: click.Context, folder: Path | None, values: Path | None, plan: bool, changed: bool) -> None:
    """Deploy the checkout: check, images, infrastructure, secrets, migration, services.

    May be killed and repeated: what is done isn't done again. deploy/terraform/terraform.tfvars says what to make; the
    guide is docs/aws.md.
    """
    context.ensure_object(dict).update(folder=folder, values=values)
    if context.invoked_subcommand is not None:
        return
    made = connect(context)
    if plan:
        made.prepare()
        told = made.terraform.outputs()
        from dagster_project.operations.deploy.infrastructure import NO_IMAGE

        images = {name: told["image"][name] for name in NO_IMAGE} if told.get("image") else NO_IMAGE
        made.terraform.plan(images, told["image"]["release"] if told.get("image") else "none")
        return
    release = made.deploy(changed_too=changed)
    click.secho(f"{release.name} is deployed; `bindery deploy aws status`, `bindery deploy aws ui`", fg="green")


def connect(context: click.Context) -> Deploy:
    """Find the platform that is meant, and who asks."""
    from dagster_project.operations.deploy.errors import DeployError, DeployRefusedError
    from dagster_project.operations.deploy.flow import Deploy
    from dagster_project.operations.deploy.infrastructure import Terraform, read_values
    from dagster_project.operations.deploy.programs import Programs
    from dagster_project.settings import child_environment, get_settings

    settings = get_settings()
    folder = (context.obj["folder"] or settings.project_dir / "deploy" / "terraform").absolute()
    if not folder.is_dir():
        raise DeployRefusedError(f"{folder} isn't there: deploying needs a checkout")
    file = (context.obj["values"] or folder / "terraform.tfvars").absolute()
    if context.obj["values"] and not file.exists():
        raise DeployRefusedError(f"{file} isn't there")
    said = read_values(file)
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    # boto3 reads AWS_DEFAULT_REGION alone, Terraform and the AWS CLI of today AWS_REGION, too.
    session = boto3.session.Session(region_name=said.get("region") or child_environment({}).get("AWS_REGION"))
    if session.region_name is None:
        raise DeployRefusedError(f"which region? Write it into {file} (terraform.tfvars.example), or set AWS_REGION")
    try:
        account = str(session.client("sts").get_caller_identity()["Account"])
    except (BotoCoreError, ClientError) as error:
        raise DeployError(f"AWS doesn't know who asks: {error}. `aws sso login`, or what AWS_PROFILE names") from None
    project = said.get("project", settings.project)
    state = settings.data_dir / "deploy" / f"{project}-{account}-{session.region_name}"
    variables = {
        "TF_DATA_DIR": str(state / "terraform"),
        "TF_IN_AUTOMATION": "1",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }
    programs = Programs(settings.project_dir, child_environment(variables))
    terraform = Terraform(programs, folder, file, project, session.region_name, account)
    architecture = said.get("cpu_architecture", "X86_64")
    click.echo(f"{project} in {session.region_name}, account {account}")
    return Deploy(programs, terraform, session, say, architecture)


def say(line: str) -> None:
    """Print a line at once: a deploy is watched."""
    click.echo(line)
    sys.stdout.flush()


def deployed(context: click.Context) -> tuple[Deploy, dict[str, Any]]:
    """Find a platform that was deployed, and what it says of itself."""
    from dagster_project.operations.deploy.errors import DeployRefusedError

    made = connect(context)
    made.terraform.initialise()
    told = made.terraform.outputs()
    if "cluster" not in told:
        raise DeployRefusedError("nothing is deployed there: `bindery deploy aws`")
    return made, told


@aws.command()
@click.option("--changed", is_flag=True, help="Push the checkout with changes that aren't committed.")
@click.pass_context
def push(context: click.Context, changed: bool) -> None:
    """Make repositories, log in, build and push both images: all in one, and nothing else."""
    from dagster_project.operations.deploy.release import release_name

    made = connect(context)
    name = release_name(made.programs, changed_too=changed)
    made.prepare()
    made.push(name)


@aws.command()
@click.option("--to", metavar="RELEASE", help="Which one; by default the one before.")
@click.option("--list", "listed", is_flag=True, help="Name the releases there are, and do nothing.")
@click.pass_context
def rollback(context: click.Context, to: str | None, listed: bool) -> None:
    """Go back to an earlier release: its images, its migration's yes, then the services."""
    if listed:
        made, told = deployed(context)
        for release in made.releases(told):
            mark = "*" if release.images["dagster"] == told["image"]["dagster"] else " "
            click.echo(f"{mark} {release.name}  {release.images['dagster']}")
        return
    release = connect(context).rollback(to)
    click.secho(f"{release.name} is deployed again", fg="green")


@aws.command()
@click.option("--with-data", is_flag=True, help="Delete the database, buckets, images and secrets, too.")
@click.option("--yes", metavar="PROJECT", help="Don't ask: the project's name, typed.")
@click.pass_context
def destroy(context: click.Context, with_data: bool, yes: str | None) -> None:
    """Take the platform down. Database, buckets, images and secrets stay, unless their going is asked for."""
    from dagster_project.operations.deploy.errors import DeployRefusedError

    made = connect(context)
    project = made.terraform.project
    what = (
        "EVERYTHING, the database, all landed bytes and uploads included, for ever" if with_data else "all but its data"
    )
    typed = yes if yes is not None else click.prompt(f"This takes down {what}. Type the project's name ({project})")
    if typed != project:
        raise DeployRefusedError(f"{typed!r} isn't {project!r}: nothing was touched")
    left = made.destroy(with_data=with_data)
    kinds = sorted({address.partition(".")[0] for address in left if not address.startswith("data.")})
    said = f"left: {', '.join(kinds)}" if kinds else "nothing is left but the bucket of Terraform's state"
    click.echo(
        said + ("" if with_data else "; the database goes on costing. `bindery deploy aws` brings the rest back")
    )


@aws.command()
@click.pass_context
def status(context: click.Context) -> None:
    """Say which release runs, and how services, tasks, uploads and alarms are."""
    from dagster_project.operations.deploy.status import status as look

    made, told = deployed(context)
    for word, sentence in look(made.session, told):
        click.echo(f"{word:20} {sentence}")


@aws.command()
@click.argument("service", required=False)
@click.pass_context
def logs(context: click.Context, service: str | None) -> None:
    """Follow what tasks print; SERVICE (bindery-daemon, bindery-step, ...): those of one family."""
    made, told = deployed(context)
    words = ["aws", "logs", "tail", told["log_group"], "--follow", "--region", told["region"]]
    made.programs.run(*words, *(["--log-stream-name-prefix", service] if service else []))


@aws.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.pass_context
def run(context: click.Context, words: tuple[str, ...]) -> None:
    """Run a command inside, in a task of its own: `bindery deploy aws run -- bindery inbox list`. Takes a minute."""
    from dagster_project.operations.deploy.migration import run_once

    made, told = deployed(context)
    code, lines = run_once(made.client("ecs"), made.client("logs"), told, words, made.terraform.account, say)
    click.echo("\n".join(lines))
    sys.exit(1 if code is None else code)


@aws.command()
@click.argument("name")
@click.pass_context
def secret(context: click.Context, name: str) -> None:
    """Keep a secret that a card names as {secret: NAME}; its value is read from standard input."""
    from dagster_project.operations.deploy.secrets import Store, set_secret

    made, told = deployed(context)
    value = click.prompt("value", hide_input=True) if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    set_secret(Store.of(told["secrets"]["from"], made.session), name, value)
    click.echo(f"kept {name}; steps read it from now on")


@aws.command()
@click.pass_context
def password(context: click.Context) -> None:
    """Print the login of the UI, where it is ours (ui_login = basic)."""
    from dagster_project.operations.deploy.errors import DeployRefusedError
    from dagster_project.operations.deploy.secrets import OPERATOR, OPERATOR_PASSWORD, Store

    made, told = deployed(context)
    if OPERATOR_PASSWORD not in told["secrets"]["names"]:
        raise DeployRefusedError("this platform has no login of its own: its UI is behind a tunnel or your provider")
    value = Store.of(told["secrets"]["from"], made.session).find(OPERATOR_PASSWORD)
    click.echo(f"{OPERATOR}  {value or '(none yet: `bindery deploy aws` makes it)'}")


@aws.command()
@click.option("--for", "seconds", type=seconds_of, default="1h", show_default=True, help="Stay awake so long: 30m, 2h.")
@click.pass_context
def wake(context: click.Context, seconds: float) -> None:
    """Wake a platform of size minimal, and keep it awake for a while."""
    from dagster_project.operations.deploy.errors import DeployRefusedError
    from dagster_project.operations.deploy.services import sleepers
    from dagster_project.operations.deploy.services import wake as wake_up

    made, told = deployed(context)
    asleep = sleepers(told["services"])
    if not asleep:
        raise DeployRefusedError(f"size {told['size']} never sleeps")
    for service in asleep:
        wake_up(made.client("ecs"), told["cluster"], service, seconds)
    click.echo(f"awake for {seconds / 60:.0f} minutes at least; it answers in two")


@aws.command()
@click.option("--port", default=3000, show_default=True, help="Where it is on this machine.")
@click.option("--for", "seconds", type=seconds_of, default="1h", show_default=True, help="Keep it awake so long.")
@click.pass_context
def ui(context: click.Context, port: int, seconds: float) -> None:
    """Open a tunnel to the UI, and wake the platform first where it sleeps. Nobody else can use it."""
    from dagster_project.operations.deploy.services import sleepers
    from dagster_project.operations.deploy.services import wake as wake_up
    from dagster_project.operations.deploy.tunnel import session_words, target

    made, told = deployed(context)
    if told["ui"]:
        click.echo(f"https://{told['ui']} (your host name is a CNAME of it); `bindery deploy aws password`")
        return
    ecs = made.client("ecs")
    for service in sleepers(told["services"]):
        wake_up(ecs, told["cluster"], service, seconds)
    found = target(ecs, told["cluster"], told["services"], say)
    say(f"http://localhost:{port} until you press Ctrl-C")
    made.programs.run(*session_words(found, told["region"], port))


@aws.command()
@click.option("--size", type=click.Choice(["minimal", "small", "production"]), help="One size in detail.")
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Another price list.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def costs(context: click.Context, size: str | None, prices: Path | None, as_json: bool) -> None:
    """Say what a month and a run cost, by published prices: deploy/terraform/prices.yaml, which you may change."""
    from dagster_project.operations.deploy.costs import as_text, compute, read_prices
    from dagster_project.settings import get_settings

    folder = context.obj["folder"] or get_settings().project_dir / "deploy" / "terraform"
    sheet = compute(read_prices(prices or folder / "prices.yaml"))
    if as_json:
        import json

        click.echo(json.dumps(sheet.to_json(), indent=2))
        return
    click.echo(as_text(sheet, size))


@aws.command(hidden=True)
@click.option("--after", type=seconds_of, default="10m", help="Seconds of idleness.")
def rest(after: float) -> None:
    """Size minimal, inside: put the platform to sleep when nothing is left to do."""
    import boto3
    from dagster import DagsterInstance

    from dagster_project.operations.deploy.rest import Platform
    from dagster_project.operations.deploy.rest import rest as watch
    from dagster_project.settings import get_settings

    settings = get_settings()
    cluster = settings.ecs_cluster or settings.project
    with DagsterInstance.get() as instance:
        name = f"{settings.project}-platform"
        ecs, sqs = boto3.client("ecs"), boto3.client("sqs")
        watch(Platform(instance, ecs, sqs, cluster, name, settings.uploads_queue_url), after, say)
    # ECS ends the task; whoever ended by themselves before would be started again.
    signal.pause()
