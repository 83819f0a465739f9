"""Towers of every kind see what transformers' own models of them see; others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import avg_pool2d, interpolate

from llava.errors import CheckpointError
from llava.images import crop_side, is_squashing, process_images, resize_side
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.multimodal_encoder import vision_tower
from llava.model.multimodal_encoder.builder import build_vision_tower
from runners.evaluation.roofline import TowerShape
from tests.broken_checkpoints import edit_config
from tests.checkpoints import LoadedModel, make_checkpoint
from tests.towers import WIDTH, make_internvit, make_siglip

PREFIX = "model.vision_tower.vision_tower."
S2 = {"s2": True, "s2_scales": "112, 56", "mm_hidden_size": 64}


def tower_of(folder: Path, **config: Any) -> Any:
    """The tower of a folder as a checkpoint with this configuration has it."""
    fields = {"mm_vision_tower": str(folder), "mm_vision_select_layer": -2, **config}
    return build_vision_tower(SimpleNamespace(**fields))


def noise(side: int, number: int = 2) -> torch.Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(side))


def states_of(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        states: tuple[torch.Tensor, ...] = model(images, output_hidden_states=True).hidden_states
    return states


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def load(folder: Path) -> LoadedModel:
    return LoadedModel(*load_pretrained_model(str(folder), None, folder.name, device="cpu"))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        inspect_checkpoint(str(folder))
    return str(error.value)


def check_counts(folder: Path, num_features: int) -> None:
    """Checks that a checkpoint plans with as many features of an image as its model makes."""
    checkpoint, (_, model, processor, _) = inspect_checkpoint(str(folder)), load(folder)
    image = Image.radial_gradient("L").convert("RGB").resize((90, 50))
    pixels = process_images([image], processor, model.config)
    assert pixels.shape[-1] == resize_side(processor) == crop_side(processor)
    with torch.no_grad():
        (features,) = model.image_features(pixels, None)
    assert features.shape == (num_features, model.config.hidden_size)
    assert checkpoint.tower.num_features == num_features
    assert model.num_image_tokens(pixels[0], image.size) == num_features


def test_siglip_ends_before_its_last_layer_whatever_the_config_selects(tmp_path: Path) -> None:
    oracle, images = make_siglip(tmp_path / "siglip"), noise(32)
    expected = states_of(oracle, images)[2]
    for config in ({}, {"mm_vision_select_layer": 0, "mm_vision_select_feature": "cls_patch"}):
        tower = tower_of(tmp_path / "siglip", **config)
        assert_same(tower(images), expected)
    assert len(tower.model.encoder.layers) == 2
    assert (tower.num_patches, tower.num_patches_per_side, tower.hidden_size) == (4, 2, WIDTH)


@pytest.mark.parametrize("layer", [-1, -2, 3])
def test_layers_of_siglip_inside_a_checkpoint_are_counted_as_stored(
    layer: int, tmp_path: Path
) -> None:
    folder = tmp_path / "siglip"
    oracle, images = make_siglip(folder, vision_use_head=False), noise(32)
    part = json.loads((folder / "config.json").read_text())
    inside = {"model_type": "llava", "vision_config": part}
    (folder / "config.json").write_text(json.dumps(inside))
    (folder / "preprocessor_config.json").write_text("{}")
    tower = tower_of(folder, mm_vision_select_layer=layer, mm_vision_select_feature="cls_patch")
    assert_same(tower(images), states_of(oracle, images)[layer])


@pytest.mark.parametrize("fields", [{}, {"qkv_bias": True}, {"qk_normalization": False}])
def test_internvit_is_transformers_own_at_the_size_that_its_name_says(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "InternViT-6B-224px"
    oracle = make_internvit(folder, **fields)
    tower = tower_of(folder, mm_vision_select_layer=-4)
    assert (tower.image_size, tower.num_patches) == (336, 36)
    assert_same(tower(noise(336)), states_of(oracle, noise(336))[-4][:, 1:])
    larger = tower_of(folder, mm_vision_tower=str(folder), mm_vision_image_size=448)
    assert (larger.image_size, larger.num_patches) == (448, 64)
    assert_same(larger(noise(448)), states_of(oracle, noise(448))[-2][:, 1:])


@pytest.mark.parametrize(("name", "side"), [("InternViT-6B-448px", 448), ("InternViT-6B", 336)])
def test_internvit_has_images_sized_by_its_name_and_normalized_by_imagenet(
    name: str, side: int, tmp_path: Path
) -> None:
    make_internvit(tmp_path / name)
    folder = make_checkpoint(tmp_path / "intern-chat", tmp_path / name, mm_vision_select_layer=-4)
    edit_config(folder, mm_vision_image_size=56)  # of a model that was saved with another tower
    processor = load(folder).image_processor
    assert resize_side(processor) == crop_side(processor) == side
    assert not is_squashing(processor)
    assert list(processor.image_mean) == [0.485, 0.456, 0.406]
    check_counts(folder, (side // 56) ** 2)


def several_scales(tower: Any, images: torch.Tensor, scales: list[int]) -> torch.Tensor:
    """The features of S2, tile by tile and patch by patch."""
    side, patches = tower.image_size, tower.num_patches_per_side
    maps = []
    for scale in scales:
        resized = interpolate(images, size=(scale, scale), mode="bicubic", align_corners=False)
        rows = []
        for top in range(0, scale, side):
            tiles = (resized[:, :, top : top + side, left : left + side]
                     for left in range(0, scale, side))  # fmt: skip
            row = [tower(tile).view(len(images), patches, patches, -1) for tile in tiles]
            rows.append(torch.cat(row, dim=2))
        whole = torch.cat(rows, dim=1).permute(0, 3, 1, 2)
        maps.append(avg_pool2d(whole, scale // side))
    return torch.cat(maps, dim=1).flatten(2).transpose(1, 2)


def test_features_of_several_scales_lie_side_by_side(
    tiny_tower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tower_of(tiny_tower, s2=True, s2_scales="168,56,112")
    images = noise(168, 3)
    expected = several_scales(tower_of(tiny_tower), images, [56, 112, 168])
    assert expected.shape == (3, 16, tower.hidden_size) == (3, 16, 96)
    assert_same(tower(images), expected)
    assert_same(tower([images[0]])[0], expected[:1])
    assert tower.images_at_once == 32 // (1 + 4 + 9)
    monkeypatch.setattr(vision_tower, "MAX_IMAGES", 1)
    assert tower.images_at_once == 1
    assert_same(tower(images), expected)


def test_checkpoint_with_several_scales_is_prepared_at_the_largest(
    tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava-s2", tiny_tower, **S2)
    check_counts(folder, 16)
    processor = load(folder).image_processor
    assert resize_side(processor) == crop_side(processor) == 112
    checkpoint = inspect_checkpoint(str(folder))
    plain = inspect_checkpoint(str(make_checkpoint(tmp_path / "llava", tiny_tower)))
    flops, once = (TowerShape.of(c.config, c.tower).flops for c in (checkpoint, plain))
    assert 4 < flops / once < 5.1  # five images of 56 pixels, and a projector of twice the width


def test_checkpoint_that_tuned_siglip_holds_it_without_the_last_layer(tmp_path: Path) -> None:
    oracle = make_siglip(tmp_path / "siglip")
    folder = make_checkpoint(tmp_path / "llava-ov", tmp_path / "siglip")
    check_counts(folder, 4)
    weights = load_file(folder / "model.safetensors")
    stored = load_file(tmp_path / "siglip" / "model.safetensors")
    own = {PREFIX + name: t for name, t in stored.items() if name.startswith("vision_model.")}
    save_file(weights | own, folder / "model.safetensors")
    edit_config(folder, unfreeze_mm_vision_tower=None)
    expected = states_of(oracle, noise(32))[2]
    assert_same(load(folder).model.get_vision_tower()(noise(32)), expected)  # a whole copy is fine
    dropped = ("vision_model.encoder.layers.2.", "vision_model.head.")
    tuned = {name: 1.5 * t for name, t in own.items() if not any(part in name for part in dropped)}
    save_file(weights | tuned, folder / "model.safetensors")
    assert "have other values than in" in load_refusal(folder)
    edit_config(folder, mm_tunable_parts="mm_vision_tower,mm_mlp_adapter")
    for parameter in oracle.parameters():
        parameter.data = (1.5 * parameter.data.half()).float()
    assert_same(load(folder).model.get_vision_tower()(noise(32)), states_of(oracle, noise(32))[2])


def load_refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load(folder)
    return str(error.value)


def test_copy_of_internvit_in_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    make_internvit(tmp_path / "InternViT-6B")
    folder = make_checkpoint(tmp_path / "intern-chat", tmp_path / "InternViT-6B")
    edit_config(folder, unfreeze_mm_vision_tower=None)
    own = load_file(tmp_path / "InternViT-6B" / "model.safetensors")
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {PREFIX + k: v for k, v in own.items()}, folder / "model.safetensors")
    assert load(folder).model.load_report.num_tower_ignored == len(own)
    trained = {PREFIX + name: 2 * tensor for name, tensor in own.items()}
    save_file(weights | trained, folder / "model.safetensors")
    assert "have other values than in" in load_refusal(folder)


@pytest.mark.parametrize("file", [None, '{"image_mean": [0, 0, 0], "size": 7}'])
def test_original_format_prepares_images_for_siglip_without_asking_its_folder(
    file: str | None, tmp_path: Path
) -> None:
    make_siglip(tmp_path / "siglip")
    if file is not None:
        (tmp_path / "siglip" / "preprocessor_config.json").write_text(file)
    tower = tower_of(tmp_path / "siglip")
    processor, image = tower.image_processor, Image.linear_gradient("L").convert("RGB")
    image = image.crop((0, 0, 200, 256))
    assert is_squashing(processor)
    pixels = process_images([image], processor, SimpleNamespace(image_aspect_ratio="square"))
    squashed = torch.tensor(list(image.resize((32, 32), Image.Resampling.BICUBIC).tobytes()))
    expected = squashed.view(32, 32, 3).permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(pixels[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"s2_scales": "112,168"}, "s2_scales", "56 among them, but is '112,168'"),
        ({"s2_scales": "56,100"}, "s2_scales", "multiples of 56"),
        ({"s2_scales": "56;112"}, "s2_scales", "whole numbers with commas between"),
        ({"s2_scales": None}, "s2_scales", "56 among them, but is '336,672,1008'"),
        ({"s2": "yes"}, "s2", "true or false"),
        ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature", "`s2` is true"),
        (
            {"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[56, 112]]},
            "image_aspect_ratio",
            "`s2` is true",
        ),
    ],
)
def test_scales_that_contradict_are_refused(
    fields: dict[str, Any], field: str, told: str, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava-s2", tiny_tower, **S2 | fields)
    message = refusal(folder)
    assert f"`{field}` must be" in message
    assert told in message
    assert str(folder / "config.json") in message


def test_scales_of_other_towers_and_widths_of_one_scale_are_refused(
    tiny_tower: Path, tmp_path: Path
) -> None:
    make_siglip(tmp_path / "siglip")
    folder = make_checkpoint(tmp_path / "llava", tmp_path / "siglip", s2=True, s2_scales="32")
    assert "`s2` must be false, as the vision tower is SigLIP" in refusal(folder)
    narrow = make_checkpoint(tmp_path / "llava-s2", tiny_tower, **S2 | {"mm_hidden_size": 32})
    assert "has features of width 64, but `mm_hidden_size` is 32" in refusal(narrow)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "eva02"}, "of the kind 'eva02', as `model_type` says"),
        ({"model_type": ["clip"]}, "of the kind ['clip'], as `model_type` says"),
        ({"model_type": "aimv2", "vision_config": {}}, "of the kind 'aimv2', as `model_type` says"),
        (
            {"model_type": "clip", "vision_config": {"model_type": "aimv2"}},
            "of the kind 'aimv2', as `vision_config.model_type` says",
        ),
        ({"model_type": "llava", "vision_config": {}}, "of the kind 'llava', as `model_type`"),
    ],
)
def test_towers_of_unknown_kinds_are_refused_with_those_that_are_known(
    config: dict[str, Any], told: str, tmp_path: Path
) -> None:
    make_siglip(tmp_path / "siglip")
    folder = make_checkpoint(tmp_path / "llava", tmp_path / "siglip")
    path = tmp_path / "siglip" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    message = refusal(folder)
    assert told in message
    assert str(path) in message
    assert "CLIP (clip_vision_model), SigLIP (siglip_vision_model), InternViT-6B" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [("norm_type", "layer_norm"), ("qkv_bias", "no"), ("patch_size", 500), ("image_size", None)],
)
def test_fields_of_a_tower_are_refused_by_name(field: str, value: Any, tmp_path: Path) -> None:
    make_internvit(tmp_path / "InternViT-6B")
    folder = make_checkpoint(tmp_path / "intern-chat", tmp_path / "InternViT-6B")
    edit_config(tmp_path / "InternViT-6B", **{field: value})
    message = refusal(folder)
    assert f"`{field}` must be" in message
    assert str(tmp_path / "InternViT-6B" / "config.json") in message


def test_layers_that_a_towers_config_leaves_out_are_refused(tmp_path: Path) -> None:
    make_siglip(tmp_path / "siglip")
    folder = make_checkpoint(tmp_path / "llava", tmp_path / "siglip")
    edit_config(tmp_path / "siglip", num_hidden_layers=2)
    assert "`num_hidden_layers` must be 3, as the weights" in refusal(folder)


@pytest.mark.parametrize(
    ("field", "told"), [("qk_normalization", "k_norm.weight, that its"), ("qkv_bias", "lacks")]
)
def test_tensors_that_a_towers_config_does_not_describe_are_refused(
    field: str, told: str, tmp_path: Path
) -> None:
    make_internvit(tmp_path / "InternViT-6B")
    folder = make_checkpoint(tmp_path / "intern-chat", tmp_path / "InternViT-6B")
    config = json.loads((tmp_path / "InternViT-6B" / "config.json").read_text())
    edit_config(tmp_path / "InternViT-6B", **{field: not config[field]})
    assert told in load_refusal(folder)


def native_siglip(folder: Path, **fields: Any) -> Path:
    """A checkpoint in transformers' format as far as it is inspected before weights are read."""
    make_siglip(folder.parent / "siglip")
    llava = make_checkpoint(folder, folder.parent / "siglip")
    text = json.loads((llava / "config.json").read_text())
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llava",
                "text_config": {name: text[name] for name in (*names, "vocab_size")},
                "vision_config": json.loads((folder.parent / "siglip/config.json").read_text()),
                "vision_feature_layer": -1,
                "vision_feature_select_strategy": "full",
                **fields,
            }
        )
    )
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 32, "width": 32},
    }
    colors = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | colors))
    return folder


def test_siglip_inside_a_checkpoint_follows_its_files(tmp_path: Path) -> None:
    folder = native_siglip(tmp_path / "llava-hf")
    checkpoint = inspect_checkpoint(str(folder))
    assert checkpoint.tower.num_features == 4
    assert checkpoint.tower is not None
    assert checkpoint.tower.num_layers == 3
    assert folder / "preprocessor_config.json" in checkpoint.files
    tower = tower_of(folder, unfreeze_mm_vision_tower=True, mm_vision_select_feature="cls_patch")
    assert list(tower.image_processor.image_mean) == [0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("size", {"height": 32, "width": 64}, "32, the tower's `image_size`, in height and width"),
        ("size", {"shortest_edge": 32}, "32, the tower's `image_size`, in height and width"),
        ("image_mean", None, "a list of 3 times a number"),
        ("do_center_crop", True, "one of false, null"),
        ("image_processor_type", "CLIPImageProcessor", "a SigLIP image processor"),
    ],
)
def test_image_processors_that_do_not_go_with_siglip_are_refused(
    field: str, value: Any, told: str, tmp_path: Path
) -> None:
    folder = native_siglip(tmp_path / "llava-hf")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    message = refusal(folder)
    assert f"`{field}` must be {told}" in message
    assert str(path) in message


def test_siglip_has_no_class_token_to_leave_out(tmp_path: Path) -> None:
    folder = native_siglip(tmp_path / "llava-hf", vision_feature_select_strategy="default")
    assert "`vision_feature_select_strategy` must be full, as a SigLIP tower" in refusal(folder)
