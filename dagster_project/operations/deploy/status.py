"""What a deployed platform is doing: services, tasks, uploads, alarms, releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dagster_project.operations.deploy import services


def status(session: Any, told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what there is, in pairs of a word and a sentence.

    Args:
        session: A boto3 session.
        told: Terraform's outputs.
    """
    ecs = session.client("ecs")
    yield "release", str(told["image"]["release"])
    yield "size", f"{told['size']} in {told['region']}"
    for name in told["services"]:
        yield name, of_service(services.look(ecs, told["cluster"], name))
    yield "tasks", of_tasks(ecs, told)
    sqs = session.client("sqs")
    for word, queue in (("uploads", told["queue"]["url"]), ("dead", told["queue"]["dead"])):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counted = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        waiting, held = (int(counted[each]) for each in names)
        yield word, f"{waiting} wait, {held} being read"
    alarms = session.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{told['project']}-", StateValue="ALARM")
    # An upload that waits is what wakes a platform, and no trouble.
    ringing = [each for each in alarms["MetricAlarms"] if not each["AlarmName"].endswith("-uploads-wait")]
    for each in ringing:
        yield "ALARM", f"{each['AlarmName']}: {each.get('AlarmDescription', '')}"
    if not ringing:
        yield "alarms", "none"
    yield "ui", f"https://{told['ui']} (your host name is a CNAME of it)" if told["ui"] else "bindery deploy aws ui"


def of_service(found: Mapping[str, Any]) -> str:
    """Put a service into a line."""
    if not found["desiredCount"]:
        return "asleep" if services.sleepers([found["serviceName"]]) else "stopped: no task is wanted"
    states = {str(each.get("rolloutState", "")) for each in found["deployments"]}
    going = " (a release is being rolled)" if "IN_PROGRESS" in states else ""
    last = f"; {found['events'][0]['message']}" if found.get("events") and found["runningCount"] == 0 else ""
    return f"{found['runningCount']} of {found['desiredCount']} running{going}{last}"


def of_tasks(ecs: Any, told: Mapping[str, Any]) -> str:
    """Count runs and steps."""
    pages = ecs.get_paginator("list_tasks").paginate(cluster=told["cluster"])
    arns = [arn for page in pages for arn in page["taskArns"]]
    counted = {"run": 0, "step": 0}
    for first in range(0, len(arns), 100):
        described = ecs.describe_tasks(cluster=told["cluster"], tasks=arns[first : first + 100], include=["TAGS"])
        for task in described["tasks"]:
            kind = {each["key"]: each.get("value") for each in task.get("tags", [])}.get("bindery.kind")
            if kind in counted:
                counted[kind] += 1
    return f"{counted['run']} runs, {counted['step']} steps"
