"""Why a task ended, or never began, in words for the event log: what ECS says of it, and what to change.

Reads what ``describe_tasks`` tells; asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagster_project.execution.compute import MIB, Compute
from dagster_project.execution.diagnosis import MEMORY_ADVICE, exit_words, lacks_program, last_lines, out_of_memory
from dagster_project.execution.ecs.cluster import Task, container_of
from dagster_project.execution.ecs.sizes import Size

_TRANSIENT = (
    "timeout waiting for network interface provisioning",
    "timeout waiting for ephemeralstorage provisioning",
    "unexpected ec2 error while attempting to create network interface",
    "the service discovery instance could not be registered",
    "insufficientfreeaddressesinsubnet",
    "task provisioning failed",
    "fetching secret data from aws secrets manager in region: request canceled",
)
"""What ECS says where the next attempt may start; the list of dagster_aws, and what was added since."""
_PULL_PASSES = ("i/o timeout", "invalid argument", "eof", "toomanyrequests", "tls handshake timeout")


@dataclass(frozen=True, slots=True)
class Death:
    """How a task ended."""

    exit_code: int | None
    """None where its container never ran."""
    stop_code: str
    reason: str
    """ECS's words about the task."""
    container_reason: str = ""
    """ECS's words about its container."""

    @property
    def good(self) -> bool:
        """Whether it ended by itself without an error."""
        return self.exit_code == 0 and not self.out_of_memory

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel ended it at its limit."""
        return "outofmemory" in f"{self.container_reason} {self.reason}".lower()

    @property
    def interrupted(self) -> bool:
        """Whether AWS took its capacity back: Spot's, or a machine's that it maintains."""
        return self.from_spot or self.stop_code == "TerminationNotice"

    @property
    def from_spot(self) -> bool:
        """Whether it was Spot capacity that AWS took back."""
        return self.stop_code == "SpotInterruption" or "spot task was interrupted" in self.reason.lower()

    @property
    def no_capacity(self) -> bool:
        """Whether there was no room for it after all."""
        return "capacity is unavailable" in self.reason.lower()

    @property
    def transient(self) -> bool:
        """Whether it never began, for a reason that passes by itself."""
        text = f"{self.reason} {self.container_reason}".lower()
        if self.exit_code is not None:
            return False
        pull = "cannotpullcontainer" in text and any(words in text for words in _PULL_PASSES)
        return pull or any(words in text for words in _TRANSIENT)

    @property
    def told(self) -> str:
        """Give what ECS said, both of them."""
        parts = [part.rstrip(".") for part in (self.reason, self.container_reason) if part]
        return "; ".join(dict.fromkeys(parts)) or "no reason given"


def death_of(task: Task) -> Death:
    """Read how a task ended."""
    container = container_of(task)
    code = container.get("exitCode")
    return Death(
        int(code) if code is not None else None,
        str(task.get("stopCode") or ""),
        str(task.get("stoppedReason") or "").strip(),
        str(container.get("reason") or "").strip(),
    )


def explain(death: Death, compute: Compute, size: Size | None, log: Sequence[str], arn: str) -> str:
    """Say what happened to a step's task and what to change.

    Args:
        death: How it ended.
        compute: What the step asked for.
        size: What the task had.
        log: Its last lines.
        arn: The task's.
    """
    had = f"compute class {compute}" + (f", task of {size}" if size else "")
    limit = size.memory * MIB if size else compute.memory
    parts = [f"{_what(death, limit)} Task {arn.rpartition('/')[2]}, {had}; {_code(death)}."]
    if advice := _advice(death, compute):
        parts.append(advice)
    return "\n".join([*parts, *last_lines(log)])


def explain_run(death: Death, log: Sequence[str], arn: str, *, begun: bool) -> str:
    """Say why the task of a run's worker ended, before the run had started or in its middle."""
    when = "while the run was under way" if begun else "before the run had started"
    first = f"The task {arn.rpartition('/')[2]} of the run's worker ended {when}: {_what(death, None)} {_code(death)}."
    parts = [first]
    if advice := _advice(death, None):
        parts.append(advice)
    return "\n".join([*parts, *last_lines(log)])


def _code(death: Death) -> str:
    code = f"exit code {death.exit_code}" if death.exit_code is not None else "its container never ran"
    return f"{code}, ECS says {death.stop_code or 'no stop code'}: {death.told}"


def _what(death: Death, limit: int | None) -> str:
    if death.out_of_memory:
        return out_of_memory(limit) if limit else "It ran out of memory."
    if death.interrupted:
        return f"AWS took the {'Spot capacity' if death.from_spot else 'machine'} back."
    if death.exit_code is None:
        return "ECS couldn't start it."
    return exit_words(death.exit_code)


def _advice(death: Death, compute: Compute | None) -> str:
    text = death.told.lower()
    if death.out_of_memory:
        return MEMORY_ADVICE if compute else "What to change: the size of the task definition P-run (deploy/terraform)."
    if "cannotpullcontainer" in text:
        return _pull_advice(text)
    if "resourceinitializationerror" in text or "unable to pull secrets" in text:
        return (
            "What to change: the task needs a way to Secrets Manager, ECR and CloudWatch (a public address, a NAT "
            "gateway, or VPC endpoints), and its execution role the right to read the secrets that its definition "
            "names. `bindery doctor aws` looks at both."
        )
    if death.no_capacity:
        return (
            "What to change: wait, allow FARGATE (BINDERY_ECS_CAPACITY), or name subnets in more availability zones "
            "(BINDERY_ECS_SUBNETS)."
        )
    if death.from_spot:
        return "What to change: BINDERY_ECS_CAPACITY=FARGATE for steps that never get to their end on Spot."
    if death.transient:
        return "What to change: nothing in the step; AWS had trouble with the network or the disk of the task."
    if death.stop_code == "UserInitiated":
        return "What to change: nothing in the step. Somebody stopped the task (CloudTrail says who: StopTask)."
    if death.exit_code == 137:
        return (
            "What to change: if its memory was near the limit, a larger class; Fargate doesn't always say that a task "
            "ran out of memory. Otherwise nothing in the step: something sent SIGKILL."
        )
    if death.exit_code in {125, 126, 127} or "cannotstartcontainer" in text:
        return lacks_program(compute or Compute("run", 1, 1))
    return ""


def _pull_advice(text: str) -> str:
    if "not found" in text or "manifest unknown" in text or "does not exist" in text:
        return (
            "What to change: the image isn't in the registry. `make deploy` pushes what it deploys; an image that a "
            "card or an op names itself has to be pushed by whoever names it."
        )
    if "accessdenied" in text or "not authorized" in text or "no basic auth" in text or "denied" in text:
        return (
            "What to change: the execution role needs ecr:GetAuthorizationToken, ecr:BatchGetImage and "
            "ecr:GetDownloadUrlForLayer for this repository."
        )
    return (
        "What to change: the task found no way to the registry. Its subnet needs a NAT gateway or the VPC endpoints "
        "ecr.api, ecr.dkr and s3; in a public subnet set BINDERY_ECS_PUBLIC_IP=true. `bindery doctor aws` looks at it."
    )
