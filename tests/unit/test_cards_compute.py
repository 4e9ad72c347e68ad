"""What a card asks for its steps: a compute class or numbers of its own, and how both reach the op's tag."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.execution import compute as execution
from dagster_project.ingest import sizes
from dagster_project.ingest.cards.base import Compute, StepCompute
from dagster_project.ingest.cards.read import json_schema, read_card
from dagster_project.ingest.errors import CardError

CARD = """\
type: dagster_project.components.FileSource
attributes:
  source: drops
  path: drop
  compute: %s
  streams:
    - {name: rows, files: ["*.csv"]}
"""


def read(folder: Path, compute: str) -> Compute:
    path = folder / "defs.yaml"
    path.write_text(CARD % compute, encoding="utf-8")
    return read_card(path).compute


def asked(step: StepCompute) -> execution.Compute:
    return execution.requested({execution.COMPUTE_TAG: step.tag})


@pytest.mark.parametrize("name", execution.CLASSES)
def test_a_class_by_its_name_is_the_tag(tmp_path: Path, name: str) -> None:
    card = read(tmp_path, f"{{load: {name}}}")
    assert card.load.tag == name
    assert card.fetch.tag == "small"
    assert asked(card.load) == execution.CLASSES[name]
    assert read(tmp_path, f"{{load: {{class: {name}}}}}") == card


def test_numbers_reach_the_step(tmp_path: Path) -> None:
    load = read(tmp_path, "{load: {cpu: 2, memory: 3GiB, gpu: 1, image: 'bindery/dagster:1-cuda', on_oom: grow}}").load
    assert asked(load) == execution.Compute(
        "small", cpu=2, memory=3 * 2**30, gpu=1, image="bindery/dagster:1-cuda", grows=True
    )
    only = read(tmp_path, "{fetch: {class: medium, memory: 6g}}").fetch
    assert asked(only) == execution.Compute("medium", cpu=2, memory=6 * 2**30)
    assert asked(read(tmp_path, "{fetch: {gpu: 0, on_oom: fail}}").fetch) == execution.CLASSES["small"]


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        ("{load: hug}", "compute.load: expected one of small, medium, large, gpu; got 'hug'"),
        ("{load: larg}", "got 'larg'; did you mean `large`?"),
        ("{load: 3}", "compute.load: expected the name of a compute class, or fields such as {cpu: 2, memory: 3GiB}"),
        ("{load: {class: huge}}", "compute.load.class: expected one of small, medium, large, gpu; got 'huge'"),
        ("{load: {memory: lots}}", "compute.load.memory: a size is a number with MiB or GiB, such as 512MiB or 3GiB"),
        ("{load: {memory: 255MiB}}", "compute.load.memory: a step needs at least 256MiB"),
        ("{load: {memory: 3}}", "compute.load.memory: a step needs at least 256MiB"),
        ("{fetch: {cpu: 0}}", "compute.fetch.cpu: input should be greater than 0; got 0"),
        ("{fetch: {cpu: .nan}}", "compute.fetch.cpu: input should be a finite number; got nan"),
        ("{fetch: {cpu: two}}", "compute.fetch.cpu: expected a number; got 'two'"),
        ("{fetch: {gpu: -1}}", "compute.fetch.gpu: input should be greater than or equal to 0; got -1"),
        ("{fetch: {gpu: 0.5}}", "compute.fetch.gpu: expected a whole number; got 0.5"),
        ("{fetch: {image: 'two words'}}", "compute.fetch.image: "),
        ("{fetch: {on_oom: retry}}", "compute.fetch.on_oom: expected one of grow, fail; got 'retry'"),
        ("{fetch: {memroy: 3GiB}}", "compute.fetch.memroy: unknown field; did you mean `memory`?"),
        ("{fetch: {ram: 3}}", "known here: class, cpu, gpu, image, memory, on_oom"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field(tmp_path: Path, compute: str, said: str) -> None:
    with pytest.raises(CardError) as caught:
        read(tmp_path, compute)
    assert "defs.yaml:5:" in str(caught.value)
    assert said in str(caught.value)


@given(
    st.one_of(
        st.from_regex(sizes.SIZE, fullmatch=True),
        st.sampled_from(["512MiB", "3GiB", "4g", "1.5G", "100mb", "7", "lots", "", "3 TiB", "-1GiB", "1e9"]),
        st.text(max_size=8),
    )
)
def test_cards_and_tags_read_sizes_alike(text: str) -> None:
    try:
        expected: object = execution.parse_size(text)
    except execution.ComputeError:
        expected = None
    try:
        assert sizes.parse_size(text) == expected
    except ValueError:
        assert expected is None


def test_the_least_memory_is_the_same_in_both() -> None:
    assert sizes.LEAST_MEMORY == execution.LEAST_MEMORY


def test_editors_are_told_of_both_ways() -> None:
    name, mapping = json_schema()["$defs"]["StepCompute"]["anyOf"]
    assert name["enum"] == list(execution.CLASSES)
    assert set(mapping["properties"]) == {"class", "cpu", "memory", "gpu", "image", "on_oom"}
