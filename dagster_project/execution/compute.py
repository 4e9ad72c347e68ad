"""Compute classes: named amounts of CPU, memory and GPU that mean the same on a laptop, in Docker and on ECS.

Turns what a step asks for (the tags of its op) into numbers. How an environment gives them to a container is written
in that environment's room. Imports no Dagster and no container library.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

COMPUTE_TAG = "bindery/compute"
"""Tag of an op: the name of a class, or a JSON object ``{"class", "cpu", "memory", "gpu", "image", "on_oom"}``."""
IMAGE_TAG = "bindery/image"
"""Tag of an op that runs in another image than Dagster's: ``dbt``, or a full name."""

MIB = 2**20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": MIB, "gi": 2**30}
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?)?b?\s*$", re.IGNORECASE | re.ASCII)
LEAST_MEMORY = 256 * MIB
"""Below this a step dies while it imports."""


class ComputeError(ValueError):
    """A compute class doesn't exist, or its numbers make no sense."""


@dataclass(frozen=True, slots=True)
class Compute:
    """What one step gets."""

    name: str
    """Class it was derived from."""
    cpu: float
    """Cores, or parts of one."""
    memory: int
    """Bytes; a step that needs more is ended by the kernel."""
    gpu: int = 0
    """Whole devices."""
    image: str | None = None
    """``dbt``, a full image name, or None for Dagster's own."""
    grows: bool = False
    """Whether a step that ran out of memory is tried again in the next larger class."""

    def __str__(self) -> str:
        """Write it for people."""
        gpu = f", {self.gpu} GPU" if self.gpu else ""
        return f"{self.name} ({self.cpu:g} CPU, {format_size(self.memory)}{gpu})"


CLASSES: Mapping[str, Compute] = {
    "small": Compute("small", cpu=1, memory=1024 * MIB),
    "medium": Compute("medium", cpu=2, memory=4096 * MIB),
    "large": Compute("large", cpu=4, memory=16384 * MIB),
    "gpu": Compute("gpu", cpu=4, memory=16384 * MIB, gpu=1),
}
"""The classes by themselves. Memory and CPU are pairs that Fargate has, too."""
GROWTH = ("small", "medium", "large")
DEFAULT = "small"


def classes(overrides: Mapping[str, Mapping[str, object]] | None = None) -> dict[str, Compute]:
    """Give the classes of this installation.

    Args:
        overrides: Class name -> numbers that replace the usual ones; further names make further classes.

    Raises:
        ComputeError: A number makes no sense.
    """
    found = dict(CLASSES)
    for name, numbers in (overrides or {}).items():
        base = found.get(name, replace(CLASSES[DEFAULT], name=name))
        found[name] = _changed(base, numbers, f"compute class {name!r}")
    return found


def requested(tags: Mapping[str, str], known: Mapping[str, Compute] = CLASSES) -> Compute:
    """Give what a step asks for by its tags; a step that says nothing gets the smallest class.

    Raises:
        ComputeError: There is no such class, or a number makes no sense; the message lists what there is.
    """
    said = tags.get(COMPUTE_TAG, DEFAULT).strip()
    asked: Mapping[str, object] = {"class": said}
    if said.startswith("{"):
        try:
            asked = json.loads(said)
        except ValueError as error:
            raise ComputeError(f"the tag {COMPUTE_TAG} isn't JSON: {error}") from None
    name = str(asked.get("class", DEFAULT))
    if name not in known:
        raise ComputeError(f"there is no compute class {name!r}; there are {', '.join(known)}")
    numbers = {key: value for key, value in asked.items() if key != "class"}
    found = _changed(known[name], numbers, f"the tag {COMPUTE_TAG}")
    return replace(found, image=tags[IMAGE_TAG]) if IMAGE_TAG in tags else found


def larger(compute: Compute, known: Mapping[str, Compute] = CLASSES) -> Compute | None:
    """Give the same with the memory and CPU of the next larger class, or None where there is none."""
    for name in GROWTH:
        if name in known and known[name].memory > compute.memory:
            cpu = max(compute.cpu, known[name].cpu)
            return replace(compute, name=name, cpu=cpu, memory=known[name].memory)
    return None


def parse_size(text: object) -> int:
    """Read a number of bytes: ``512MiB``, ``4g``, ``1073741824``.

    Raises:
        ComputeError: It isn't one.
    """
    match = _SIZE.match(str(text))
    if match is None:
        raise ComputeError(f"{text!r} isn't a size such as 512MiB or 4GiB")
    # `4g` is what Docker users write and mean GiB by.
    unit = (match.group(2) or "").lower()
    return int(float(match.group(1)) * _UNITS[unit + "i" if unit and not unit.endswith("i") else unit])


def format_size(size: int) -> str:
    """Write a number of bytes in MiB or GiB."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / MIB:.0f} MiB"


def _changed(base: Compute, numbers: Mapping[str, object], what: str) -> Compute:
    known = {"cpu", "memory", "gpu", "image", "on_oom"}
    if unknown := set(numbers) - known:
        raise ComputeError(f"{what}: unknown {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    if (on_oom := numbers.get("on_oom", "fail")) not in {"grow", "fail"}:
        raise ComputeError(f"{what}: on_oom must be grow or fail, got {on_oom!r}")
    try:
        found = replace(
            base,
            cpu=float(str(numbers.get("cpu", base.cpu))),
            memory=parse_size(numbers.get("memory", base.memory)),
            gpu=int(str(numbers.get("gpu", base.gpu))),
            image=base.image if numbers.get("image") is None else str(numbers["image"]),
            grows=numbers.get("on_oom", "grow" if base.grows else "fail") == "grow",
        )
    except ValueError as error:
        raise ComputeError(f"{what}: {error}") from None
    # Written so that NaN is refused, too.
    if not 0 < found.cpu < math.inf or found.gpu < 0:
        raise ComputeError(f"{what}: cpu must be above 0 and gpu not below 0")
    if found.memory < LEAST_MEMORY:
        raise ComputeError(f"{what}: memory must be at least {format_size(LEAST_MEMORY)}, got {numbers.get('memory')}")
    return found
