"""Packed answers are the sequential ones on every family of language models."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from llava.conversation import conv_templates
from llava.generation.packed import PackedEngine
from llava.generation.request import GenerationConfig, ImageProbe, RequestFailure
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.model.families import FAMILIES
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_packed import SIZES, Picture, build_request, random_requests
from tests.variants import FAMILY_FIELDS, make_family


def load(folder: Path, **options: object) -> LoadedModel:
    return LoadedModel(
        *load_pretrained_model(
            str(folder), None, folder.name, device="cpu", **{"dtype": "float32", **options}
        )
    )


@pytest.mark.few_cases(3)
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


@pytest.mark.few_cases(1)
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


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rotations_that_depend_on_the_longest_row_are_not_packed_and_the_log_says_so(
    rope: dict[str, object], tiny_tower: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(make_family(tmp_path / "llava-tiny", tiny_tower, "qwen2", rope_scaling=rope))
    engine = PackedEngine(*model)
    requests = random_requests(model, seed=1, number=4)
    alone = [result.token_ids for result in SequentialEngine(*model).run(requests)]
    assert [result.token_ids for result in engine.run(requests)] == alone
    assert engine.stats.num_packed == 0
    assert [
        line.message for line in caplog.records if line.name.startswith("llava.generation")
    ] == [
        f"questions are answered one by one, which is slower: with {rope['rope_type']} rotary "
        "scaling, an answer would hang on the questions beside it"
    ]


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("family", ["qwen2", "llama 3"])
def test_rotations_that_grew_with_a_longer_question_are_forgotten(
    family: str, tiny_tower: Path, tmp_path: Path
) -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0}
    fields = {"max_position_embeddings": 24, "max_sequence_length": 512, "rope_scaling": rope}
    folder = make_family(
        tmp_path / "llava-tiny", tiny_tower, family, tokenizer_model_max_length=512, **fields
    )
    answers = []
    for order in (1, -1):
        model = load(folder)  # as in a process of its own
        requests = random_requests(model, seed=1, number=10)[::order]
        answers.append({one.key: one.token_ids for one in SequentialEngine(*model).run(requests)})
    assert answers[0] == answers[1]


def test_log_says_nothing_where_questions_are_packed(
    tiny_tower: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(make_family(tmp_path / "llava-tiny", tiny_tower, "qwen2"))
    caplog.clear()
    PackedEngine(*model)
    assert not caplog.records
    model.model.generation_config.repetition_penalty = 1.5
    PackedEngine(*model)
    assert "generation config has repetition_penalty" in caplog.records[0].getMessage()


def test_every_family_is_tried() -> None:
    tried = {fields.get("model_type", "llava_llama") for fields in FAMILY_FIELDS.values()}
    packed = {family.llava_types[0] for family in FAMILIES.values() if family.is_packable}
    assert tried | {"llava_mistral"} == packed


def test_several_images_are_padded_where_one_is_tiled_up_to_a_limit(
    tiny_tower: Path, tmp_path: Path, one_torch_thread: None
) -> None:
    tiles = {"image_aspect_ratio": "anyres_max_2", "mm_patch_merge_type": "spatial_unpad"}
    tiles |= {"image_grid_pinpoints": "(1x1),...,(3x3)"}
    folder = make_family(tmp_path / "llava-tiny", tiny_tower, "qwen2", **tiles)
    model = load(folder)
    opened: Counter[str] = Counter()
    wide, tall = Picture("wide", opened), Picture("tall", opened)
    requests = [
        build_request(model, "one", "<image>\nWhat?", [wide]),
        build_request(model, "two", "<image>\n<image>\nWhat?", [wide, tall]),
    ]
    num_patches = model.model.get_vision_tower().num_patches
    engines = SequentialEngine(*model), PackedEngine(*model, replay="off")
    alone, together = ({result.key: result for result in e.run(requests)} for e in engines)
    for answers in (alone, together):
        lengths = {key: answer.num_prompt_tokens for key, answer in answers.items()}
        assert lengths["two"] == len(requests[1].prompt_ids) - 2 + 2 * num_patches
        assert lengths["one"] > len(requests[0].prompt_ids) - 1 + 2 * num_patches
    assert alone["two"].token_ids == together["two"].token_ids


def test_image_that_would_be_shrunk_to_nothing_fails_its_own_questions_alone(
    tiny_tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "thread", (10, 200))
    tiles = {"image_aspect_ratio": "anyres_max_1", "mm_patch_merge_type": "spatial_unpad"}
    folder = make_family(
        tmp_path / "llava-tiny", tiny_tower, "qwen2", **tiles, image_grid_pinpoints=[[56, 504]]
    )
    model = load(folder)
    opened: Counter[str] = Counter()
    requests = [
        build_request(model, name, "<image>\nWhat?", [Picture(name, opened)])
        for name in ("wide", "thread", "tall")
    ]
    engines = SequentialEngine(*model), PackedEngine(*model, replay="off")
    alone, together = ({result.key: result for result in e.run(requests)} for e in engines)
    for key, answer in alone.items():
        if key == "thread":
            assert isinstance(answer, RequestFailure)
            assert together[key] == answer
        else:
            assert together[key].token_ids == answer.token_ids


def test_end_of_a_turn_ends_an_answer_where_the_template_has_one(
    tiny_tower: Path, tmp_path: Path, one_torch_thread: None
) -> None:
    model = load(make_family(tmp_path / "llava-tiny", tiny_tower, "qwen2"))
    opened: Counter[str] = Counter()
    request = build_request(model, "a", "<image>\nWhat?", [Picture("wide", opened)])
    (whole,) = SequentialEngine(*model).run([request])
    third = whole.token_ids[2]
    assert third not in whole.token_ids[:2]
    model.tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    named = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    # the third token of the answer is called what ends a turn of Qwen's
    model.tokenizer.convert_tokens_to_ids = lambda text: third if text == "<|im_end|>" else named
    model.tokenizer.convert_ids_to_tokens = lambda *_, **__: "<|im_end|>"
    for engine in (SequentialEngine, PackedEngine):
        (cut,) = engine(*model, "qwen_1_5").run([request])
        assert cut.token_ids == whole.token_ids[:3]
        assert cut.finish_reason == "stop"


@pytest.mark.parametrize("engine", [SequentialEngine, PackedEngine])
def test_ordinary_token_that_ends_an_answer_is_no_part_of_its_text(
    engine: type[SequentialEngine] | type[PackedEngine],
    tiny_tower: Path,
    tmp_path: Path,
    one_torch_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(make_family(tmp_path / "llava-tiny", tiny_tower, "qwen2"))
    request = build_request(model, "a", "<image>\nWhat?", [Picture("wide", Counter())])
    (whole,) = SequentialEngine(*model).run([request])
    stop = whole.token_ids[2]
    word = model.tokenizer.convert_ids_to_tokens(stop)
    assert stop not in whole.token_ids[:2]
    assert model.tokenizer.decode([stop], skip_special_tokens=True).strip()
    plain = conv_templates["plain"]
    monkeypatch.setitem(conv_templates, "mine", replace(plain, stops=(word,)))
    ending = engine(*model, "mine")
    (cut,) = ending.run([request])
    assert cut.token_ids == whole.token_ids[:3]
    assert cut.finish_reason == "stop"
    assert cut.text == model.tokenizer.decode(whole.token_ids[:2]).strip()
    probe = ending.probe(request)
    assert isinstance(probe, ImageProbe)
    assert probe.text == cut.text
    chosen = replace(request, generation=GenerationConfig(max_new_tokens=1), choices=(stop,))
    (choice,) = ending.run([chosen])
    assert choice.text == model.tokenizer.decode([stop]).strip()
