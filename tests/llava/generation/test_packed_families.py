"""Packed answers are the sequential ones on every family of language models."""

from __future__ import annotations

from pathlib import Path

import pytest

from llava.generation.packed import PackedEngine, is_packable
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.model.families import FAMILIES
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_packed import random_requests
from tests.variants import FAMILY_FIELDS, make_family


def load(folder: Path, **options: object) -> LoadedModel:
    return LoadedModel(
        *load_pretrained_model(
            str(folder), None, folder.name, device="cpu", **{"dtype": "float32", **options}
        )
    )


@pytest.mark.parametrize("family", FAMILY_FIELDS)
def test_packs_give_the_sequential_answers(
    family: str, tiny_tower: Path, tmp_path: Path, one_torch_thread: None
) -> None:
    model = load(make_family(tmp_path / "llava-tiny", tiny_tower, family))
    requests = random_requests(model, seed=1, number=16)
    engine = PackedEngine(*model, replay="off")
    together = {result.key: result for result in engine.run(requests)}
    alone = {result.key: result for result in SequentialEngine(*model).run(requests)}
    assert engine.stats.num_packed > len(requests) / 2
    assert [together[key].token_ids for key in alone] == [one.token_ids for one in alone.values()]
    assert len({one.token_ids for one in alone.values()}) > 3


@pytest.mark.parametrize("family", ["llama 3", "qwen2"])
def test_near_ties_are_decided_alone_in_short_formats(
    family: str, tiny_tower: Path, tmp_path: Path, one_torch_thread: None
) -> None:
    folder = make_family(tmp_path / "llava-tiny", tiny_tower, family)
    model = load(folder, dtype="bfloat16")
    requests = random_requests(model, seed=2, number=16)
    engine = PackedEngine(*model)
    together = {result.key: result for result in engine.run(requests)}
    for one in SequentialEngine(*model).run(requests):
        assert together[one.key].token_ids == one.token_ids


def test_rotations_that_depend_on_the_longest_row_are_not_packed(
    tiny_tower: Path, tmp_path: Path
) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0}
    folder = make_family(tmp_path / "llava-tiny", tiny_tower, "qwen2", rope_scaling=rope)
    assert not is_packable(load(folder).model.config)


def test_every_family_is_tried() -> None:
    tried = {fields.get("model_type", "llava_llama") for fields in FAMILY_FIELDS.values()}
    packed = {family.llava_types[0] for family in FAMILIES.values() if family.is_packable}
    assert tried | {"llava_mistral"} == packed
