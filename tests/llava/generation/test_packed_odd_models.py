"""The packed engine on models that are quantized, tiled, overflow or come with options."""

from __future__ import annotations

import json
import math
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llava.generation.neartie import near_ties_of, shortest_dtype
from llava.generation.packed import PackedEngine, why_alone
from llava.generation.request import (
    Completion,
    GenerationConfig,
    Request,
    RequestFailure,
)
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.model.quantization import Quantization
from tests.checkpoints import LoadedModel, make_checkpoint
from tests.llava.generation.test_packed import (
    WORDS,
    Picture,
    build_request,
    facts,
    memory_for,
    random_requests,
)


def questions(model: LoadedModel, names: list[str], each: int = 3) -> list[Request]:
    """Some questions about each picture."""
    opened: Counter[str] = Counter()
    return [
        build_request(
            model, f"{name}{i}", f"<image>\n{' '.join(WORDS[i:])}", [Picture(name, opened)]
        )
        for name in names
        for i in range(each)
    ]


def test_row_that_loses_all_but_one_question_keeps_its_answer(tiny_model: LoadedModel) -> None:
    requests = questions(tiny_model, ["wide", "tall"])
    for place in (1, 2):
        long = f"<image>\n{'dog ' * 3000}"
        images = list(requests[place].images)
        requests[place] = build_request(tiny_model, requests[place].key, long, images)
    expected = facts(list(SequentialEngine(*tiny_model).run(requests)))
    engine = PackedEngine(*tiny_model, replay="off", max_tokens=100_000)
    engine._max_pass_tokens = None  # as on a GPU, where rows are joined however long they are
    assert facts(list(engine.run(requests))) == expected


def load(folder: Path, **options: object) -> LoadedModel:
    return LoadedModel(
        *load_pretrained_model(str(folder), None, folder.name, device="cpu", **options)
    )


def test_answers_computed_again_encode_their_image_once(tiny_model: LoadedModel) -> None:
    requests = questions(tiny_model, ["wide", "tall"], each=6)
    alone = facts(list(SequentialEngine(*tiny_model).run(requests)))
    tower = tiny_model.model.get_vision_tower()
    batches: list[int] = []
    hook = tower.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    try:
        packed = facts(list(PackedEngine(*tiny_model, replay="all").run(requests)))
    finally:
        hook.remove()
    assert packed == alone
    assert sum(batches) <= 2 + 2  # in the pack, and each alone


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.float32),
        ({"quantization": Quantization(kind="int8")}, torch.float16),
        ({"quantization": Quantization(kind="nf4")}, torch.float32),
        (
            {"quantization": Quantization(kind="nf4", compute_dtype=torch.bfloat16)},
            torch.bfloat16,
        ),
        ({"vision_tower_dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": "float16"}, torch.float16),
    ],
)
def test_threshold_is_measured_wherever_anything_is_computed_in_a_short_format(
    tiny_checkpoint: Path, options: dict[str, object], dtype: torch.dtype
) -> None:
    model = load(tiny_checkpoint, **{"dtype": "float32", **options})
    assert shortest_dtype(model.model) is dtype
    assert PackedEngine(*model).near_ties.measures is (dtype is not torch.float32)
    # how far int8 moves margins cannot be told before, whatever is computed around it
    is_int8 = getattr(options.get("quantization"), "kind", None) == "int8"
    for autocast in (None, torch.bfloat16):
        near_ties = near_ties_of(model.model, autocast)
        assert (near_ties.threshold == math.inf) is is_int8


def short_questions(model: LoadedModel, seeds: range) -> list[Request]:
    """Greedy ones with short answers, each with a key of its own."""
    requests = [r for seed in seeds for r in random_requests(model, seed)]
    short = GenerationConfig(max_new_tokens=4)
    return [replace(r, key=f"{i}", generation=short) for i, r in enumerate(requests)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "fewest"),
    [
        pytest.param(Quantization(kind="nf4"), 12, id="nf4"),
        pytest.param(
            Quantization(kind="nf4", compute_dtype=torch.bfloat16), 12, id="nf4 in bfloat16"
        ),
        # what int8 rounds off a token hangs on the others beside it: nearly every answer may change
        pytest.param(Quantization(kind="int8"), 0, id="int8"),
    ],
)
def test_quantized_weights_give_the_sequential_answers_once_near_ties_are_decided(
    quantization: Quantization, fewest: int, tiny_checkpoint: Path
) -> None:
    model = load(tiny_checkpoint, dtype="float32", quantization=quantization)
    engine = PackedEngine(*model)
    seeds = iter(range(1000))
    while engine.report().calibration.num_changes < 200:
        list(engine.run(short_questions(model, range(next(seeds), next(seeds)))))
    requests = short_questions(model, range(next(seeds), next(seeds) + 1))
    expected = facts(list(SequentialEngine(*model).run(requests)))
    results = list(engine.run(requests))
    assert facts(results) == expected
    packed_alone = [r for r in results if isinstance(r, Completion) and not r.replayed]
    assert len(packed_alone) >= fewest


@pytest.mark.parametrize("replay", ["near_ties", "off"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_question_that_overflows_fails_alone(
    tiny_checkpoint: Path, poison: float, replay: str
) -> None:
    model = load(tiny_checkpoint, dtype="float16")
    requests = questions(model, ["wide"], each=4)
    ids = requests[1].prompt_ids.copy()
    ids[-2] = poisoned = int(max(request.prompt_ids.max() for request in requests)) + 1
    requests[1] = replace(requests[1], prompt_ids=ids)
    with torch.no_grad():
        model.model.get_input_embeddings().weight[poisoned] = poison
    engine = PackedEngine(*model, replay=replay)
    results = {result.key: result for result in engine.run(requests)}
    failure = results.pop("wide1")
    assert isinstance(failure, RequestFailure)
    assert failure.cause == "not_finite"
    assert all(isinstance(result, Completion) for result in results.values())
    (alone,) = SequentialEngine(*model).run([requests[1]])
    assert alone == failure


def test_options_of_the_checkpoint_that_change_logits_hold_in_packs_too(
    tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava-v1.5-tiny", tiny_tower)
    plain = load(folder, dtype="float32")
    requests = questions(plain, ["wide", "tall"])
    answers = list(PackedEngine(*plain).run(requests))
    before, written = facts(answers), answers[0].token_ids[0]
    options = {"eos_token_id": 2, "repetition_penalty": 1.3, "suppress_tokens": [written]}
    (folder / "generation_config.json").write_text(json.dumps(options))
    model = load(folder, dtype="float32")
    expected = facts(list(SequentialEngine(*model).run(requests)))
    assert facts(list(PackedEngine(*model).run(requests))) == expected != before


NEUTRAL = {
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "guidance_scale"), 1.0),
    **dict.fromkeys(("no_repeat_ngram_size", "min_length", "min_new_tokens"), 0),
    **{name: [] for name in ("suppress_tokens", "begin_suppress_tokens")},
    **dict.fromkeys(("bad_words_ids", "forced_bos_token_id", "forced_eos_token_id"), None),
    **dict.fromkeys(("remove_invalid_values", "token_healing"), False),
}
"""Options that old files have written down and that change no token."""


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_options_that_change_nothing_do_not_keep_questions_from_packs(
    file: str, tiny_tower: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_checkpoint(tmp_path / "llava-v1.5-tiny", tiny_tower)
    plain = load(folder, dtype="float32")
    requests = questions(plain, ["wide", "tall"])
    expected = facts(list(SequentialEngine(*plain).run(requests)))
    stated = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(stated | NEUTRAL))
    model = load(folder, dtype="float32")
    caplog.clear()
    engine = PackedEngine(*model)
    assert facts(list(engine.run(requests))) == expected
    assert facts(list(SequentialEngine(*model).run(requests))) == expected
    assert engine.stats.num_packed == len(requests)
    assert not [line for line in caplog.records if line.name.startswith("llava")]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("repetition_penalty", 1.2), ("no_repeat_ngram_size", 3), ("min_new_tokens", 2)),
        *(("suppress_tokens", [0]), ("bad_words_ids", [[5]]), ("remove_invalid_values", True)),
        *(("forced_bos_token_id", 0), ("forced_eos_token_id", 0), ("forced_bos_token_id", 1)),
        *(("min_length", 1), ("guidance_scale", 3.0), ("stop_strings", ["a"]), ("max_time", 9.0)),
    ],
)
def test_options_that_decide_tokens_are_named_as_why_questions_go_one_by_one(
    option: str, value: object, tiny_model: LoadedModel
) -> None:
    config = deepcopy(tiny_model.model.generation_config)
    setattr(config, option, value)
    model = SimpleNamespace(config=tiny_model.model.config, generation_config=config)
    assert why_alone(model) == f"its generation config has {option}"


@pytest.fixture(scope="module")
def tiled_model(tiny_tower: Path) -> LoadedModel:
    """A model whose images are cut into tiles: several times the usual number of tokens."""
    folder = make_checkpoint(
        tiny_tower.parent / "llava-v1.6-tiled",
        tiny_tower,
        image_aspect_ratio="anyres",
        mm_patch_merge_type="spatial_unpad",
        image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]],
    )
    return load(folder, dtype="float32")


def test_packs_of_tiled_images_keep_to_the_budget(tiled_model: LoadedModel) -> None:
    requests = questions(tiled_model, ["wide", "tall", "square", "large"])
    expected = facts(list(SequentialEngine(*tiled_model).run(requests)))
    budget = 400
    engine = PackedEngine(*tiled_model, max_tokens=budget, replay="off")
    with memory_for(tiled_model, budget) as attempts:
        assert facts(list(engine.run(requests))) == expected
    assert engine.stats.num_halvings == 0
    assert max(attempts) <= budget


def test_pack_that_did_not_fit_makes_the_next_ones_smaller(tiny_model: LoadedModel) -> None:
    requests = questions(tiny_model, ["wide", "tall", "square", "large"], each=12)
    engine = PackedEngine(*tiny_model, max_tokens=100_000, replay="off")
    engine._max_pass_tokens = None
    with memory_for(tiny_model, 700):
        first = facts(list(engine.run(requests)))
        halvings = engine.stats.num_halvings
        second = facts(list(engine.run(requests)))
    assert first == second
    assert engine.stats.num_halvings == halvings > 0


def test_tower_is_never_cut_between_devices(tiny_model: LoadedModel) -> None:
    kept_whole = tiny_model.model._no_split_modules
    assert {"CLIPVisionTower", "LlamaDecoderLayer"} <= set(kept_whole)
