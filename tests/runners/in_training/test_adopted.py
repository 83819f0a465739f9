"""transformers' own LLaVAs in memory, as the package's class over the same modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from llava.errors import CheckpointError
from llava.images import process_images
from llava.model.builder import load_pretrained_model
from runners.in_training.adopted import adopt, is_adoptable
from tests.variants import make_native

IDS = torch.tensor([[1, -200, *range(300, 320)]])


def open_native(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), CLIPImageProcessor.from_pretrained(folder)


def load(folder: Path) -> Any:
    return load_pretrained_model(str(folder), None, "m", device="cpu", dtype=torch.float32)[1]


def logits(model: Any, processor: Any = None) -> torch.Tensor:
    image = Image.effect_mandelbrot((70, 50), (-3, -2.5, 2, 2.5), 90).convert("RGB")
    processor = processor or model.get_vision_tower().image_processor
    pixels = process_images([image], processor, model.config)
    with torch.no_grad():
        return model(input_ids=IDS, images=pixels, image_sizes=[image.size]).logits


@pytest.fixture(params=["llava", "llava_next"])
def native(request, tmp_path, tiny_checkpoint, anyres_checkpoint, tiny_tower) -> Path:
    llava = {"llava": tiny_checkpoint, "llava_next": anyres_checkpoint}[request.param]
    return make_native(tmp_path / "native", llava, tiny_tower)


def test_logits_are_those_of_the_saved_checkpoint(native: Path) -> None:
    model, processor = open_native(native)
    adopted = adopt(model, processor)
    loaded = load(native)
    assert torch.equal(logits(adopted), logits(loaded))
    same = ("model_type", "hidden_size", "vocab_size", "image_aspect_ratio", "max_sequence_length")
    assert all(getattr(adopted.config, n) == getattr(loaded.config, n) for n in same)
    assert adopted.generation_config.to_dict() == loaded.generation_config.to_dict()
    own = {tensor.data_ptr() for tensor in model.parameters()}
    assert {tensor.data_ptr() for tensor in adopted.parameters()} == own


def test_onevision_model_is_that_of_its_saved_checkpoint(tmp_path: Path, tiny_checkpoint) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            **small, num_hidden_layers=3, image_size=56, patch_size=14, vision_use_head=False
        ),
        text_config=Qwen2Config(
            **small, num_hidden_layers=2, num_key_value_heads=2, vocab_size=640
        ),
        image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]],
    )
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    processor = LlavaOnevisionImageProcessor(size={"height": 56, "width": 56})
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for file in tiny_checkpoint.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert torch.equal(logits(adopt(model, processor)), logits(load(tmp_path)))


def test_training_is_seen_and_left_alone(native: Path) -> None:
    model, processor = open_native(native)
    model.model.vision_tower.requires_grad_(False)
    model.train()
    needs = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    options = model.config.to_dict()
    adopted = adopt(model, processor)
    before = logits(adopted)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight.mul_(2)
    assert not torch.equal(logits(adopted), before)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == needs
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.config.to_dict() == options


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_stay_in_force(native: Path) -> None:
    model, processor = open_native(native)
    plain = logits(adopt(model, processor))
    targets = ["q_proj", "linear_1"]
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    adapted = logits(adopt(tuned.get_base_model(), processor))
    assert not torch.allclose(adapted, plain, atol=1e-3)
    merged = adopt(tuned.merge_and_unload(), processor)
    assert torch.allclose(adapted, logits(merged), atol=1e-4)


class Derived(LlavaForConditionalGeneration):
    """May compute anything."""


def test_class_that_is_derived_is_not_known(native: Path) -> None:
    model, _ = open_native(native)
    assert is_adoptable(model)
    model.__class__ = Derived
    assert not is_adoptable(model)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("config", "projector_hidden_act", "relu"),
        ("config", "vision_feature_layer", [-1, -2]),
        ("generation_config", "guidance_scale", 3.0),
    ],
)
def test_what_is_not_known_is_refused_by_its_place(
    native: Path, part: str, field: str, value: Any
) -> None:
    model, processor = open_native(native)
    setattr(getattr(model, part), field, value)
    with pytest.raises(CheckpointError, match=f"`{field}` .* the model's `{part}`") as caught:
        adopt(model, processor)
    assert "/tmp" not in str(caught.value)


def test_image_processor_of_another_tower_is_refused(native: Path) -> None:
    model, processor = open_native(native)
    processor.crop_size = {"height": 336, "width": 336}
    with pytest.raises(CheckpointError, match=r"crop_size.* the image processor"):
        adopt(model, processor)
