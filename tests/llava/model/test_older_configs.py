"""Configurations mean what they meant to the transformers that the reference runs on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llava.errors import CheckpointError
from llava.model.builder import load_pretrained_model
from tests.checkpoints import make_checkpoint
from tests.variants import make_base, make_family, make_lora, make_mpt

IDS = torch.tensor([[5, 9, 3, 30, 7]])


def load(folder: Path, base: Path | None = None) -> Any:
    return load_pretrained_model(
        str(folder), None if base is None else str(base), folder.name, device="cpu"
    )[1]


def test_mpt_takes_a_whole_dropout_and_clips_nothing(tiny_tower: Path) -> None:
    attention = {"alibi": True, "attn_impl": "torch", "alibi_bias_max": 8}
    plain = make_mpt(tiny_tower.parent / "llava-mpt-plain", tiny_tower, attn_config=attention)
    older = make_mpt(
        tiny_tower.parent / "llava-mpt-older",
        tiny_tower,
        attn_config={**attention, "attn_pdrop": 0.0, "clip_qkv": 0.01},
    )
    with torch.inference_mode():
        logits = [load(folder)(input_ids=IDS).logits for folder in (plain, older)]
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    ("generation_config", "holds"),
    [
        (None, True),
        ({"eos_token_id": 2, "_from_model_config": True}, True),
        ({"eos_token_id": 2}, False),
    ],
)
def test_generation_options_in_the_model_config_hold_unless_edited_elsewhere(
    generation_config: dict[str, Any] | None, holds: bool, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava-v1.5-tiny", tiny_tower, repetition_penalty=1.4)
    path = folder / "generation_config.json"
    path.unlink(missing_ok=True)
    if generation_config is not None:
        path.write_text(json.dumps(generation_config))
    penalty = load(folder).generation_config.repetition_penalty
    assert (penalty == 1.4) is holds


@pytest.mark.parametrize(
    ("generation_config", "end"), [({"_from_model_config": True}, 2), ({"eos_token_id": 5}, 5)]
)
def test_end_token_in_the_model_config_holds_where_the_options_are_taken_from_it(
    generation_config: dict[str, Any], end: int, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava-v1.5-tiny", tiny_tower)
    (folder / "generation_config.json").write_text(json.dumps(generation_config))
    assert load(folder).generation_config.eos_token_id == end


def test_base_of_another_size_is_named_as_what_is_wrong(
    tiny_tower: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    lora = make_lora(tiny_tower.parent / "llava-tiny-lora-sized", tiny_checkpoint)
    wide = make_checkpoint(tmp_path / "llava-wide", tiny_tower, intermediate_size=160)
    with pytest.raises(CheckpointError) as caught:
        load(lora, make_base(tmp_path / "vicuna-wide", wide))
    message = str(caught.value)
    assert "another shape" in message
    assert str(lora / "config.json") in message
    assert "`model.base=`" in message


@pytest.mark.parametrize(
    ("family", "name"), [("qwen2", "LlavaQwenForCausalLM"), ("gemma", "LlavaGemmaForCausalLM")]
)
def test_class_tells_the_language_model_where_the_type_does_not(
    family: str, name: str, tiny_tower: Path, tmp_path: Path
) -> None:
    fields = {"architectures": [name], "model_type": "llava"}
    folder = make_family(tmp_path / "tiny-7b-ov", tiny_tower, family)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert type(load(folder)).__name__ == name


def test_unknown_class_is_no_llama(tiny_tower: Path, tmp_path: Path) -> None:
    fields = {"architectures": ["LlavaOlmoForCausalLM"], "model_type": "llava"}
    folder = make_checkpoint(tmp_path / "tiny-7b", tiny_tower, **fields)
    with pytest.raises(
        CheckpointError, match=r"`architectures` must be one of LlavaLlamaFor.*Olmo"
    ):
        load(folder)


def test_class_of_another_language_model_than_the_type_is_refused(
    tiny_tower: Path, tmp_path: Path
) -> None:
    fields = {"architectures": ["LlavaGemmaForCausalLM"], "model_type": "llava_llama"}
    folder = make_checkpoint(tmp_path / "tiny-7b", tiny_tower, **fields)
    with pytest.raises(CheckpointError, match=r"`architectures` must be LlavaLlamaForCausalLM"):
        load(folder)


def test_base_of_another_language_model_is_refused(tiny_tower: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", make_family(tmp_path / "gemma", tiny_tower, "gemma"))
    llava = make_checkpoint(tmp_path / "llava-v1.5-tiny", tiny_tower)
    lora = make_lora(tmp_path / "llava-v1.5-tiny-lora", llava)
    with pytest.raises(CheckpointError, match=r"`model.base` is .* gemma, but .* a llava_llama"):
        load(lora, base)
