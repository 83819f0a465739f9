"""Every kind of checkpoint through one door."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from llava.errors import CheckpointError
from llava.images import process_images
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.kinds import CheckpointKind
from llava.model.quantization import Quantization
from llava.tokens import tokenizer_image_token
from tests.checkpoints import make_checkpoint, make_tokenizer
from tests.variants import (
    make_base,
    make_lora,
    make_mistral,
    make_mpt,
    make_native,
    make_projector,
    merged_by_hand,
    write_adapter,
)

PROMPT = "USER: <image>\nWhat color is the dog on the table? ASSISTANT:"
SIZE = (90, 50)


@pytest.fixture(scope="module")
def folders(
    tiny_tower: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders of every kind of checkpoint, beside the vision tower."""
    home = tiny_tower.parent
    made = {"llava": tiny_checkpoint}
    made["mistral"] = make_mistral(home / "llava-mistral-tiny", tiny_tower)
    made["mpt"] = make_mpt(home / "llava-mpt-tiny", tiny_tower)
    made["base"] = make_base(home / "vicuna-tiny", tiny_checkpoint)
    made["projector"] = make_projector(home / "llava-tiny-pretrain", tiny_checkpoint)
    made["lora"] = make_lora(home / "llava-tiny-lora", tiny_checkpoint)
    made["adapter"] = write_adapter(
        home / "vicuna-tiny-adapter", load_file(tiny_checkpoint / "model.safetensors")
    )
    made["anyres"] = make_checkpoint(home / "llava-v1.6-tiny", tiny_tower, **ANYRES)
    made["native"] = make_native(home / "native-llava", tiny_checkpoint, tiny_tower)
    made["native_next"] = make_native(home / "native-llava-next", made["anyres"], tiny_tower)
    return made


ANYRES = {
    "image_aspect_ratio": "anyres",
    "mm_patch_merge_type": "spatial_unpad",
    "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]],
    "unfreeze_mm_vision_tower": True,
}


def load(path: Path, base: Path | None = None, **options: Any) -> tuple[Any, Any, Any, int]:
    return load_pretrained_model(
        str(path), None if base is None else str(base), path.name, device="cpu", **options
    )


def logits_of(loaded: tuple[Any, Any, Any, int]) -> torch.Tensor:
    tokenizer, model, image_processor, _ = loaded
    ids = tokenizer_image_token(PROMPT, tokenizer, return_tensors="pt")
    image = Image.radial_gradient("L").convert("RGB").resize(SIZE)
    pixel_values = process_images([image], image_processor, model.config)
    with torch.no_grad():
        return model(input_ids=ids[None], images=pixel_values, image_sizes=[SIZE]).logits[0, -1]


@pytest.mark.parametrize(
    ("name", "base", "kind", "family"),
    [
        ("llava", None, CheckpointKind.LLAVA, "llama"),
        ("mistral", None, CheckpointKind.LLAVA, "mistral"),
        ("mpt", None, CheckpointKind.LLAVA, "mpt"),
        ("anyres", None, CheckpointKind.LLAVA, "llama"),
        ("native", None, CheckpointKind.LLAVA, "llama"),
        ("native_next", None, CheckpointKind.LLAVA, "llama"),
        ("lora", "base", CheckpointKind.LLAVA_LORA, "llama"),
        ("lora", "llava", CheckpointKind.LLAVA_LORA, "llama"),
        ("projector", "base", CheckpointKind.PROJECTOR, "llama"),
        ("base", None, CheckpointKind.PLAIN, "llama"),
        ("adapter", "base", CheckpointKind.PLAIN_ADAPTER, "llama"),
    ],
)
def test_every_kind_is_recognized_and_loads(
    folders: dict[str, Path], name: str, base: str | None, kind: CheckpointKind, family: str
) -> None:
    base_dir = folders[base] if base else None
    checkpoint = inspect_checkpoint(str(folders[name]), str(base_dir) if base_dir else None)
    assert (checkpoint.kind, checkpoint.family.name) == (kind, family)
    tokenizer, model, image_processor, context_len = load(folders[name], base_dir)
    # the native format states how long its context is, the original one has a length of its own
    assert context_len == (4096 if checkpoint.native else 2048)
    assert (image_processor is not None) == checkpoint.is_multimodal
    assert len(tokenizer) <= model.get_input_embeddings().weight.shape[0]
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.load_report.content_hash


def test_projector_over_its_base_equals_the_complete_checkpoint(folders: dict[str, Path]) -> None:
    complete = logits_of(load(folders["llava"]))
    assert torch.equal(logits_of(load(folders["projector"], folders["base"])), complete)


@pytest.mark.parametrize("base", ["base", "llava"])
def test_lora_equals_weights_merged_by_hand(
    folders: dict[str, Path], tmp_path: Path, base: str
) -> None:
    merged = tmp_path / "llava-merged"
    shutil.copytree(folders["llava"], merged)
    config = json.loads((merged / "config.json").read_text())
    config["mm_vision_tower"] = str(folders["llava"].parent / config["mm_vision_tower"])
    (merged / "config.json").write_text(json.dumps(config))
    tensors = merged_by_hand(load_file(merged / "model.safetensors"), folders["lora"])
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    expected = logits_of(load(merged))
    loaded = load(folders["lora"], folders[base])
    torch.testing.assert_close(logits_of(loaded), expected, rtol=0, atol=1e-4)
    assert loaded[1].load_report.num_adapter == 2 * 7 * 2
    assert not torch.allclose(expected, logits_of(load(folders["llava"])), atol=0.1)


@pytest.mark.parametrize(("original", "native"), [("llava", "native"), ("anyres", "native_next")])
def test_native_format_answers_as_the_original(
    folders: dict[str, Path], original: str, native: str
) -> None:
    assert torch.equal(logits_of(load(folders[native])), logits_of(load(folders[original])))


@pytest.mark.parametrize("level", ["whole", "text_config"])
@pytest.mark.parametrize("has_head", [False, True])
def test_native_head_is_tied_at_either_level_unless_it_is_stored(
    folders: dict[str, Path], tmp_path: Path, level: str, has_head: bool
) -> None:
    folder = shutil.copytree(folders["native"], tmp_path / "llava-tied-hf")
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = level == "whole"
    config["text_config"]["tie_word_embeddings"] = level == "text_config"
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    names = ("lm_head.weight", "language_model.lm_head.weight")
    name = next(name for name in names if name in tensors)
    head = tensors[name] if has_head else tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _, model, _, _ = load(folder)
    table = model.get_input_embeddings().weight
    assert torch.equal(model.get_output_embeddings().weight, head if has_head else table)


@pytest.mark.parametrize(
    ("whole", "text", "expected"),
    [
        ({"torch_dtype": "float16"}, {"torch_dtype": "bfloat16"}, torch.float16),
        ({"dtype": "bfloat16"}, {"torch_dtype": "float32"}, torch.bfloat16),
        ({"torch_dtype": "float16"}, {"dtype": "float32"}, torch.float16),
        ({"torch_dtype": None}, {"torch_dtype": "float16"}, torch.float16),
        ({}, {"dtype": "bfloat16"}, torch.bfloat16),
        ({}, {}, torch.float32),
    ],
)
def test_native_dtype_is_the_whole_models_before_the_language_models(
    folders: dict[str, Path],
    tmp_path: Path,
    whole: dict[str, Any],
    text: dict[str, Any],
    expected: torch.dtype,
) -> None:
    folder = shutil.copytree(folders["native"], tmp_path / "llava-1.5-hf")
    config = json.loads((folder / "config.json").read_text())
    for level, fields in ((config, whole), (config["text_config"], text)):
        for name in ("torch_dtype", "dtype"):
            level.pop(name, None)
        level.update(fields)
    (folder / "config.json").write_text(json.dumps(config))
    _, model, _, _ = load(folder, dtype="auto")
    assert model.lm_head.weight.dtype == expected


def test_newline_from_before_a_training_without_it_is_left_out(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["llava"], tmp_path / "llava-v1.6-mine")
    config = json.loads((folder / "config.json").read_text())
    config["mm_vision_tower"] = str(folders["llava"].parent / config["mm_vision_tower"])
    tensors = load_file(folder / "model.safetensors")
    newline = torch.ones(config["hidden_size"]).half()
    path = folder / "model.safetensors"
    save_file(tensors | {"model.image_newline": newline}, path, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"mm_patch_merge_type": "flat"}))
    assert torch.equal(logits_of(load(folder)), logits_of(load(folders["llava"])))
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"`mm_patch_merge_type` must be stated.*newline"):
        load(folder)


def test_projector_only_checkpoint_brings_its_own_tokens(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = json.loads((folders["llava"] / "config.json").read_text())
    num_pieces = config["vocab_size"]
    folder = make_projector(
        folders["llava"].parent / "llava-tiny-startend",
        folders["llava"],
        vocab_size=num_pieces + 2,
        model_type="llava",
        mm_use_im_start_end=True,
    )
    new_rows = torch.full((2, config["hidden_size"]), 0.5).half()
    projector = torch.load(folder / "mm_projector.bin", weights_only=True)
    torch.save(projector | {"model.embed_tokens.weight": new_rows}, folder / "mm_projector.bin")
    tokenizer, model, _, _ = load(folder, folders["base"])
    embeddings = model.get_input_embeddings().weight
    assert len(tokenizer) == num_pieces + 2
    assert tokenizer.convert_tokens_to_ids(["<im_start>", "<im_end>"]) == [
        num_pieces,
        num_pieces + 1,
    ]
    assert torch.equal(embeddings[-2:], new_rows.float())
    head = model.get_output_embeddings().weight
    torch.testing.assert_close(
        head[-1], head[:num_pieces].half().float().mean(0), atol=1e-3, rtol=0
    )


def test_added_tokens_get_the_mean_of_the_embeddings(tiny_tower: Path) -> None:
    folder = tiny_tower.parent / "llava-added-token"
    make_tokenizer(folder)
    make_checkpoint(folder, tiny_tower, mm_use_im_patch_token=True)
    tokenizer, model, _, _ = load(folder)
    embeddings = model.get_input_embeddings().weight
    assert len(tokenizer) == embeddings.shape[0] == 641
    torch.testing.assert_close(embeddings[-1], embeddings[:-1].mean(0), atol=1e-5, rtol=0)
    assert model.load_report.num_new_rows == 1


@pytest.mark.parametrize("name", ["llava", "mistral", "mpt", "anyres"])
def test_saved_model_reloads_equal(
    folders: dict[str, Path], name: str, tmp_path: Path, tiny_tower: Path
) -> None:
    loaded = load(folders[name])
    loaded[1].save_pretrained(tmp_path / "saved")
    loaded[0].save_pretrained(tmp_path / "saved")
    shutil.copytree(tiny_tower, tmp_path / tiny_tower.name)
    assert torch.equal(logits_of(load(tmp_path / "saved")), logits_of(loaded))


@pytest.mark.parametrize("name", ["mistral", "mpt", "anyres"])
def test_auto_class_answers_with_images(folders: dict[str, Path], name: str) -> None:
    tokenizer, model, image_processor, context_len = load(folders[name])
    auto = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).eval()
    assert type(auto) is type(model)
    expected = logits_of((tokenizer, model, image_processor, context_len))
    assert torch.equal(logits_of((tokenizer, auto, image_processor, context_len)), expected)


def test_checkpoint_in_transformers_own_format_may_be_given_by_a_relative_path(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_native(tmp_path / "models/llava-1.5-hf", tiny_checkpoint, tiny_tower)
    expected = logits_of(load(folder))
    monkeypatch.chdir(tmp_path)
    assert torch.equal(logits_of(load(folder.relative_to(tmp_path))), expected)


def test_content_hash_does_not_depend_on_the_files(
    tiny_tower: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    hashes = set()
    for number, options in enumerate(
        [{"sharded": True}, {"safetensors": False}, {"sharded": True, "safetensors": False}]
    ):
        folder = make_checkpoint(tmp_path / f"llava-{number}", tiny_tower, **options)
        hashes.add(load(folder)[1].load_report.content_hash)
    assert hashes == {load(folders["llava"])[1].load_report.content_hash}
    other = make_checkpoint(tmp_path / "llava-other", tiny_tower, seed=1)
    assert load(other)[1].load_report.content_hash not in hashes


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("name", ["llava", "lora", "mistral", "mpt"])
@pytest.mark.parametrize("kind", ["int8", "nf4", "fp4"])
def test_quantization_keeps_tower_projector_and_head(
    folders: dict[str, Path], name: str, kind: str
) -> None:
    base = folders["base"] if name == "lora" else None
    dtype = torch.float16 if kind == "int8" else torch.float32
    loaded = load(folders[name], base, quantization=Quantization(kind=kind), dtype=dtype)
    quantized = {
        module_name
        for module_name, module in loaded[1].named_modules()
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt")
    }
    layers = "transformer.blocks" if name == "mpt" else "model.layers"
    assert quantized
    assert all(module_name.startswith(layers) for module_name in quantized)
    assert logits_of(loaded).isfinite().all()


def test_short_options_for_quantization_are_the_long_ones(folders: dict[str, Path]) -> None:
    short = load(folders["llava"], load_4bit=True)
    long = load(folders["llava"], quantization=Quantization(kind="nf4"))
    assert torch.equal(logits_of(short), logits_of(long))
    with pytest.raises(ValueError, match="Only one of"):
        load(folders["llava"], load_4bit=True, load_8bit=True)


def test_eager_and_sdpa_attention_agree(folders: dict[str, Path]) -> None:
    eager = load(folders["llava"], attn_implementation="eager")
    sdpa = load(folders["llava"], attn_implementation="sdpa")
    assert eager[1].config._attn_implementation == "eager"
    torch.testing.assert_close(logits_of(eager), logits_of(sdpa), rtol=0, atol=1e-4)


def test_missing_flash_attention_is_named(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"not installed.*[Ff]lash") as caught:
        load(folders["llava"], use_flash_attn=True)
    assert ".." not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(None, torch.float32), ("bfloat16", torch.bfloat16), ("auto", torch.float16)],
)
def test_frozen_tower_stays_in_float32(
    folders: dict[str, Path], dtype: str | None, expected: torch.dtype
) -> None:
    _, model, _, _ = load(folders["llava"], dtype=dtype)
    assert model.lm_head.weight.dtype == model.get_model().mm_projector[0].weight.dtype == expected
    assert model.get_vision_tower().dtype == torch.float32


def test_tuned_tower_has_the_models_dtype_and_weights(
    folders: dict[str, Path], tiny_tower: Path
) -> None:
    _, model, _, _ = load(folders["anyres"], dtype="bfloat16")
    tower = model.get_vision_tower()
    assert tower.dtype == torch.bfloat16
    name = "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding"
    stored = load_file(folders["anyres"] / "model.safetensors")[name]
    own = load_file(tiny_tower / "model.safetensors")["vision_model.embeddings.class_embedding"]
    loaded = tower.vision_tower.vision_model.embeddings.class_embedding
    assert torch.equal(loaded, stored.bfloat16())
    assert not torch.equal(stored, own)


def test_tower_dtype_can_be_chosen(folders: dict[str, Path]) -> None:
    _, model, _, _ = load(folders["llava"], vision_tower_dtype="bfloat16")
    assert model.get_vision_tower().dtype == torch.bfloat16


def test_left_padded_batches_answer_as_single_rows(folders: dict[str, Path]) -> None:
    for name in ("mistral", "mpt"):
        tokenizer, model, _, _ = load(folders[name])
        model.config.tokenizer_padding_side = "left"
        rows = [
            tokenizer(text).input_ids
            for text in ("What color is it?", "Is the dog on the red table?")
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        options = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None}
        together = model.generate(ids, attention_mask=mask, **options)
        for row, answer in zip(rows, together, strict=True):
            alone = model.generate(torch.tensor([row]), **options)
            assert answer.tolist() == alone[0].tolist()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("llava-deltatuning", None), ("LLaVA-7b-delta-v0", "llava-7b"), ("deltas-of-llava", None)],
)
def test_model_may_have_a_name_that_holds_delta(
    folder: str, name: str | None, tiny_tower: Path, tmp_path: Path
) -> None:
    made = make_checkpoint(tmp_path / folder, tiny_tower)
    assert inspect_checkpoint(str(made), name=name).name == (name or folder)
