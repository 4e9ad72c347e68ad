"""Compute classes: what tags of an op mean in numbers, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dagster_project.execution.compute import (
    CLASSES,
    COMPUTE_TAG,
    DEFAULT,
    GROWTH,
    IMAGE_TAG,
    LEAST_MEMORY,
    MIB,
    Compute,
    ComputeError,
    classes,
    format_size,
    larger,
    parse_size,
    requested,
)


def tags(**asked: Any) -> dict[str, str]:
    return {COMPUTE_TAG: json.dumps(asked)}


def test_a_step_that_says_nothing_gets_the_smallest_class() -> None:
    assert requested({}) == CLASSES[DEFAULT] == Compute("small", cpu=1, memory=1024 * MIB)
    assert min(CLASSES.values(), key=lambda each: each.memory).name == DEFAULT


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_asked_for_by_its_name_or_in_an_object(name: str) -> None:
    assert requested({COMPUTE_TAG: name}) == requested({COMPUTE_TAG: f"  {name} "}) == CLASSES[name]
    assert requested(tags(**{"class": name})) == CLASSES[name]


def test_numbers_of_a_step_replace_those_of_its_class_and_nothing_else() -> None:
    assert requested(tags(**{"class": "medium", "memory": "6GiB"})) == Compute("medium", cpu=2, memory=6 * 2**30)
    assert requested(tags(cpu=0.5)) == Compute("small", cpu=0.5, memory=1024 * MIB)
    assert requested(tags(cpu="0.25", gpu=2)) == Compute("small", cpu=0.25, memory=1024 * MIB, gpu=2)
    assert requested(tags(image="example/tool:1")).image == "example/tool:1"
    assert requested(tags(on_oom="grow")).grows
    assert not requested(tags(on_oom="fail")).grows


def test_the_image_of_a_step_is_a_tag_of_its_own() -> None:
    assert requested({IMAGE_TAG: "dbt"}) == Compute("small", cpu=1, memory=1024 * MIB, image="dbt")
    assert requested({**tags(image="a:1"), IMAGE_TAG: "b:2"}).image == "b:2"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("huge", "there is no compute class 'huge'; there are small, medium, large, gpu"),
        ('{"class": "huge"}', "there is no compute class 'huge'; there are small, medium, large, gpu"),
        ("{class: small}", "the tag bindery/compute isn't JSON"),
        ('{"class": "small"', "the tag bindery/compute isn't JSON"),
        ('{"cpus": 2}', "the tag bindery/compute: unknown cpus; there are cpu, gpu, image, memory, on_oom"),
        ('{"memory": "lots"}', "the tag bindery/compute: 'lots' isn't a size such as 512MiB or 4GiB"),
        ('{"cpu": "two"}', "the tag bindery/compute: could not convert string to float: 'two'"),
        ('{"cpu": "nan"}', "the tag bindery/compute: cpu must be above 0 and gpu not below 0"),
        ('{"cpu": "inf"}', "the tag bindery/compute: cpu must be above 0 and gpu not below 0"),
        ('{"cpu": 0}', "the tag bindery/compute: cpu must be above 0 and gpu not below 0"),
        ('{"gpu": -1}', "the tag bindery/compute: cpu must be above 0 and gpu not below 0"),
        ('{"gpu": 0.5}', "the tag bindery/compute: invalid literal for int() with base 10: '0.5'"),
        ('{"memory": "255MiB"}', "the tag bindery/compute: memory must be at least 256 MiB, got 255MiB"),
        ('{"memory": 4}', "the tag bindery/compute: memory must be at least 256 MiB, got 4"),
        ('{"on_oom": "retry"}', "the tag bindery/compute: on_oom must be grow or fail, got 'retry'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_there_is(asked: str, said: str) -> None:
    with pytest.raises(ComputeError) as caught:
        requested({COMPUTE_TAG: asked})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * MIB),
        ("512Mi", 512 * MIB),
        ("512m", 512 * MIB),
        ("512MB", 512 * MIB),
        ("4g", 4 * 2**30),
        ("4 GiB", 4 * 2**30),
        ("1.5GiB", 3 * 2**29),
        ("1024k", MIB),
        ("268435456", LEAST_MEMORY),
        (268435456, LEAST_MEMORY),
        ("100b", 100),
    ],
)
def test_sizes_are_read_as_docker_reads_them(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1g", "4t", "4 gigs", "1e9", "0x10", None, True, "١٢٣"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ComputeError, match="isn't a size such as 512MiB or 4GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(256 * MIB, "256 MiB"), (2**30, "1 GiB"), (3 * 2**29, "1.5 GiB"), (16 * 2**30, "16 GiB")]
)
def test_sizes_are_written_so_that_they_can_be_read_again(size: int, text: str) -> None:
    assert format_size(size) == text
    assert parse_size(text) == size


def test_growing_goes_class_by_class_and_ends() -> None:
    steps = [CLASSES["small"]]
    while (grown := larger(steps[-1])) is not None:
        assert grown.memory > steps[-1].memory
        steps.append(grown)
    assert [each.name for each in steps] == list(GROWTH)
    assert steps[-1] == CLASSES["large"]


def test_growing_keeps_what_the_step_asked_for_besides() -> None:
    asked = requested({**tags(cpu=3, on_oom="grow", memory="300MiB"), IMAGE_TAG: "dbt"})
    grown = larger(asked)
    assert grown == Compute("small", cpu=3, memory=1024 * MIB, image="dbt", grows=True)
    assert larger(Compute("gpu", cpu=4, memory=16384 * MIB, gpu=1)) is None


def test_an_installation_has_other_sizes_and_further_classes() -> None:
    known = classes({"small": {"cpu": 0.5, "memory": "768MiB"}, "wide": {"memory": "8GiB", "gpu": 1}})
    assert known["small"] == Compute("small", cpu=0.5, memory=768 * MIB)
    assert known["wide"] == Compute("wide", cpu=1, memory=8 * 2**30, gpu=1)
    assert known["large"] == CLASSES["large"]
    assert requested({}, known) == known["small"]
    assert larger(known["small"], known) == known["medium"]
    assert classes() == dict(CLASSES)
    with pytest.raises(ComputeError, match="compute class 'small': unknown ram"):
        classes({"small": {"ram": 1}})


def test_a_class_is_written_for_people() -> None:
    assert str(CLASSES["small"]) == "small (1 CPU, 1 GiB)"
    assert str(CLASSES["gpu"]) == "gpu (4 CPU, 16 GiB, 1 GPU)"
    assert str(Compute("tiny", cpu=0.25, memory=300 * MIB)) == "tiny (0.25 CPU, 300 MiB)"
