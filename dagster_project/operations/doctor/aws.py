"""What ``bindery doctor aws`` looks at besides tasks: account, buckets, queue and notification, secrets, roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster_project.execution.compute import classes
from dagster_project.execution.ecs.looks import Client, Look, Looks, guarded
from dagster_project.execution.ecs.preflight import preflight
from dagster_project.execution.ecs.tasks import Place, TaskError
from dagster_project.operations.doctor.finding import Finding

if TYPE_CHECKING:
    from dagster_project.settings import Role, Settings

EVENTS = ("s3:ObjectCreated:", "s3:ObjectRemoved:")
LEAST_VISIBLE_SECONDS = 60


def examine_aws(settings: Settings) -> list[Finding]:
    """Make every check of an installation on AWS."""
    client = _client
    found: list[Look] = guarded("account", "sts:GetCallerIdentity", lambda: check_account(client("sts")))
    try:
        place = Place.of(settings)
    except TaskError as error:
        found.append(Look("network", "fail", str(error), "`make deploy`, or set them in the environment"))
    else:
        url = settings.database_url.get_secret_value() if settings.database_url else None
        found += preflight(place, classes(settings.compute_classes), url, client)
        found += guarded("roles", "iam:GetRole", lambda: check_roles(place, client))
    found += guarded(
        "buckets", "s3:GetBucketPublicAccessBlock and so on", lambda: check_buckets(settings, client("s3"))
    )
    found += guarded("queue", "sqs:GetQueueAttributes", lambda: check_queue(settings, client("sqs")))
    found += guarded("notification", "s3:GetBucketNotification", lambda: check_notification(settings, client))
    found += check_secrets(settings)
    return [Finding(each.check, each.status, each.said, each.fix) for each in found]


def _client(service: str) -> Any:
    import boto3
    from botocore.config import Config

    make: Any = boto3.client
    return make(service, config=Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 2}))


def check_account(sts: Any) -> Looks:
    """Say who asks."""
    told = sts.get_caller_identity()
    yield Look("account", "ok", f"{told['Account']} in {sts.meta.region_name}, as {told['Arn'].rpartition(':')[2]}")


def buckets(settings: Settings) -> dict[str, str]:
    """Name the buckets in use: what for -> which."""
    landing = settings.landing_root
    found = {"uploads": settings.uploads_bucket, "logs": settings.logs_bucket}
    if landing.startswith("s3://"):
        found["landing"] = landing.removeprefix("s3://").partition("/")[0]
    return {what: name for what, name in found.items() if name}


def check_buckets(settings: Settings, s3: Any) -> Looks:
    """Look for the buckets; none may be public, and landing should be on S3 where tasks come and go."""
    from botocore.exceptions import ClientError

    named = buckets(settings)
    if "landing" not in named and settings.environment == "ecs":
        said = f"raw bytes land in {settings.landing_root}, which ends with the task"
        yield Look("landing", "fail", said, "BINDERY_LANDING_URL=s3://bucket/prefix")
    if "logs" not in named and settings.environment == "ecs":
        yield Look("logs", "fail", "BINDERY_LOGS_BUCKET isn't set: the UI shows no output", "`make deploy` sets it")
    for what, name in named.items():
        try:
            s3.head_bucket(Bucket=name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            words = "isn't there" if code in {"404", "NoSuchBucket"} else f"can't be used: {error}"
            fix = "`make deploy` makes it; the task's role needs s3:ListBucket on it"
            yield Look(f"bucket {what}", "fail", f"{name} {words}", fix)
            continue
        yield from _judge_bucket(what, name, s3)


def _judge_bucket(what: str, name: str, s3: Any) -> Looks:
    from botocore.exceptions import ClientError

    try:
        blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if "NoSuchPublicAccessBlock" not in str(error):
            raise
        blocked = {}
    if not blocked or not all(blocked.values()):
        fix = f"`aws s3api put-public-access-block --bucket {name} ...` with all four, or `make deploy`"
        yield Look(f"bucket {what}", "warn", f"{name} could be made public", fix)
    else:
        yield Look(f"bucket {what}", "ok", name)


def check_queue(settings: Settings, sqs: Any) -> Looks:
    """Look at the queue of uploads, and at what its dead-letter queue holds."""
    url = settings.uploads_queue_url
    if url is None:
        yield Look("queue", "ok", "none: buckets and folders are listed")
        return
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    visible = int(told.get("VisibilityTimeout", 0))
    if visible < LEAST_VISIBLE_SECONDS:
        said = f"a message comes again after {visible} s, before it can be written down"
        yield Look("queue", "warn", said, f"VisibilityTimeout of {LEAST_VISIBLE_SECONDS} s or more")
    redrive = json.loads(told.get("RedrivePolicy") or "{}")
    if not redrive:
        said = "it has no dead-letter queue: a message that nobody can read comes again for ever"
        yield Look("queue", "fail", said, "`make deploy` makes both")
        return
    yield Look("queue", "ok", f"{url.rpartition('/')[2]}: {told.get('ApproximateNumberOfMessages', '?')} messages wait")
    name = str(redrive["deadLetterTargetArn"]).rpartition(":")[2]
    dead = sqs.get_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    count = int(dead["ApproximateNumberOfMessages"])
    if count:
        fix = "`bindery inbox list` names them, `bindery inbox redrive` has them read again"
        yield Look("dead letters", "warn", f"{count} messages in {name}", fix)
    else:
        yield Look("dead letters", "ok", "none")


def check_notification(settings: Settings, client: Client) -> Looks:
    """Look whether the uploads bucket tells the queue of what comes and goes."""
    bucket, url = settings.uploads_bucket, settings.uploads_queue_url
    if bucket is None or url is None:
        return
    told = client("s3").get_bucket_notification_configuration(Bucket=bucket)
    queue = url.rpartition("/")[2]
    events = [
        event
        for each in told.get("QueueConfigurations") or []
        if each["QueueArn"].rpartition(":")[2] == queue
        for event in each["Events"]
    ]
    missing = [wanted for wanted in EVENTS if not any(event.startswith(wanted) for event in events)]
    if missing:
        names = " and ".join(f"{each}*" for each in missing)
        said = f"{bucket} doesn't tell {queue} of {names}"
        yield Look("notification", "fail", said, "`make deploy`; until then a listing finds files, later")
    else:
        yield Look("notification", "ok", f"{bucket} -> {queue}")


def check_roles(place: Place, client: Client) -> Looks:
    """Look for the roles that the task definitions name."""
    from botocore.exceptions import ClientError

    named = {f"{place.project}-{name}" for name in ("execution", "task-run", "task-step")}
    for name in sorted(named):
        try:
            client("iam").get_role(RoleName=name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchEntity":
                raise
            yield Look("roles", "fail", f"there is no role {name}", "`make deploy` makes it")
        else:
            yield Look("roles", "ok", name)


def check_secrets(settings: Settings) -> Iterator[Look]:
    """Read what a step reads: the passwords of its roles."""
    from dagster_project.settings import SettingsError, password_name

    if settings.secrets_from is None:
        fix = "BINDERY_SECRETS_FROM=secretsmanager:P/, or files that are mounted"
        yield Look("secrets", "warn", "no AWS service is named to keep secrets", fix)
    roles: tuple[Role, ...] = ("loader", "transformer", "features", "reader", "dagster")
    for role in roles:
        try:
            found = settings.find_secret(f"POSTGRES_{role.upper()}_PASSWORD")
        except SettingsError as error:
            yield Look("secrets", "fail", str(error), "the role's policy (deploy/terraform), or the setting")
            continue
        if found is None:
            said = f"{password_name(role)} isn't there"
            yield Look("secrets", "fail", said, "`make deploy` makes it, `bindery db migrate` sets it")
        else:
            yield Look("secrets", "ok", f"password of bindery_{role}")
