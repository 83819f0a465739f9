"""The page's remedies for checkpoints, each followed to its end."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llava.errors import CheckpointError
from llava.images import process_images
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.tokens import tokenizer_image_token
from tests.broken_checkpoints import Payload, Workshop, edit_config, edit_tensors, truncate
from tests.checkpoints import make_checkpoint, make_tokenizer
from tests.quantized_formats import (
    gptq,
    gptq_config,
    layers_of,
    llm_awq,
    quantize,
    write_quantized,
)
from tests.variants import make_lora, make_native, make_projector, write_adapter

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
TOWER = "model.vision_tower.vision_tower."

Given = tuple[Path | str, Path | None]
"""What stands behind `model.path=` and `model.base=`."""

Case = Callable[[Workshop], Iterator[Given]]
"""Gives the faulty one first, and then each that a remedy makes of it."""

CASES: dict[str, Case] = {}


def case(message: str) -> Callable[[Case], Case]:
    """Says which row of the page a function follows, by its message."""

    def remember(follow: Case) -> Case:
        CASES[message] = follow
        return follow

    return remember


def lora(shop: Workshop, name: str = "llava-lora") -> tuple[Path, Path]:
    """An adapter as LLaVA saves it, and the base that it names."""
    base = shop.base()
    folder = make_lora(shop.home / name, shop.home / "llava-of-base")
    name_base(folder, base.name)
    return folder, base


def name_base(folder: Path, name: str) -> None:
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text()) | {"base_model_name_or_path": name}
    path.write_text(json.dumps(content))


def edit_bin(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


@case("no such folder is here, and the hub did not give it")
def absent_id(shop: Workshop) -> Iterator[Given]:
    yield "nobody/llava-tiny", None
    yield shop.llava(), None


@case("must be a folder or a hub id")
def absent_folder(shop: Workshop) -> Iterator[Given]:
    yield shop.home / "nowhere", None
    yield shop.llava("nowhere"), None


@case("it needs the model that it was trained on")
def no_base(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    yield folder, None
    yield folder, base
    llava = shop.home / "llava-of-base"
    yield make_projector(shop.home / "llava-pretrain", llava, _name_or_path=base.name), base


@case("is a complete checkpoint, which has no base")
def base_too_much(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    yield folder, shop.base()
    yield folder, None


@case("is missing: it holds the projector")
def no_trainables(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    trainables = folder / "non_lora_trainables.bin"
    content = trainables.read_bytes()
    trainables.unlink()
    yield folder, base
    trainables.write_bytes(content)
    yield folder, base


@case("says which tower and projector belong to")
def no_config(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    content = (folder / "config.json").read_bytes()
    (folder / "config.json").unlink()
    yield folder, base
    (folder / "config.json").write_bytes(content)
    yield folder, base


@case("No model, adapter or projector lies in")
def nothing_inside(shop: Workshop) -> Iterator[Given]:
    folder = shop.home / "checkpoint-300"
    (folder / "global_step300").mkdir(parents=True)
    yield folder, shop.base()
    for name in ("model.safetensors", "config.json", "tokenizer.model"):  # joined, and copied
        shutil.copy(shop.home / "llava-of-base" / name, folder)
    yield folder, None


@case("it, only in its folders:")
def folder_above(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop, "training/llava-lora")
    edit_config(folder, mm_vision_tower=str(shop.tower))
    yield folder.parent, base
    yield folder, base


@case("but that is a vision tower")
def tower_for_a_model(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    yield folder, shop.tower
    yield folder, base


@case("is missing: without it")
def no_adapter_config(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    content = (folder / "adapter_config.json").read_bytes()
    (folder / "adapter_config.json").unlink()
    yield folder, base
    (folder / "adapter_config.json").write_bytes(content)
    yield folder, base


@case("The vision tower ... was not found")
def tower_of_the_training(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    edit_config(folder, mm_vision_tower="/mnt/training/models/clip-of-mine")
    yield folder, None
    shutil.copytree(shop.tower, folder.parent / "clip-of-mine")
    yield folder, None


@case(", but that is ... itself")
def adapter_as_base(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    yield folder, folder
    yield folder, base


@case("says that ... was trained on")
def other_base(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    other = shutil.copytree(base, shop.home / "vicuna-of-others")
    yield folder, other
    yield folder, base


@case("holds a LoRA adapter alone")
def adapter_in_the_middle(shop: Workshop) -> Iterator[Given]:
    base = shop.llava()
    complete = make_lora(shop.home / "training", base)
    folder = write_adapter(
        shop.home / "training/checkpoint-9", load_file(base / "model.safetensors")
    )
    for place in (complete, folder):
        name_base(place, base.name)
    yield folder, base
    edit_config(complete, mm_vision_tower=str(shop.tower))
    for name in ("config.json", "non_lora_trainables.bin"):
        shutil.copy(complete / name, folder)
    yield folder, base


@case("of the vision tower, such as ... have other values than in")
def unsaid_tuning(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava(unfreeze_mm_vision_tower=True)
    edit_config(folder, unfreeze_mm_vision_tower=None)
    yield folder, None
    edit_config(folder, unfreeze_mm_vision_tower=True)
    yield folder, None


@case("tensors of the vision tower, which ... says was trained")
def tower_not_saved(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    edit_config(folder, unfreeze_mm_vision_tower=True)
    yield folder, None
    edit_config(folder, unfreeze_mm_vision_tower=False)
    yield folder, None


@case("tensors that are empty")
def not_gathered(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    gathered = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    torch.save({k: t.new_zeros(0) for k, t in gathered.items()}, folder / "non_lora_trainables.bin")
    yield folder, base
    torch.save(gathered, folder / "non_lora_trainables.bin")
    yield folder, base


@case("the training enlarged the vocabulary")
def more_tokens(shop: Workshop) -> Iterator[Given]:
    base = shop.llava()
    tensors = load_file(base / "model.safetensors")
    folder = write_adapter(shop.home / "adapter", tensors)
    enlarged = torch.cat([tensors["model.embed_tokens.weight"], torch.zeros(2, 64).half()])
    edit_bin(
        folder / "adapter_model.bin",
        lambda t: t.update({"base_model.model.model.embed_tokens.weight": enlarged}),
    )
    yield folder, base
    tokens = {"<one>": len(enlarged) - 2, "<two>": len(enlarged) - 1}
    (base / "added_tokens.json").write_text(json.dumps(tokens))
    head = torch.cat([tensors["lm_head.weight"], torch.zeros(2, 64).half()])
    merged = {"model.embed_tokens.weight": enlarged, "lm_head.weight": head}
    save_file(tensors | merged, base / "model.safetensors", metadata={"format": "pt"})
    edit_config(base, vocab_size=len(enlarged))
    yield base, None


@case("If that is a mistake, correct it")
def mistyped_value(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava(image_aspect_ratio="padd")
    yield folder, None
    edit_config(folder, image_aspect_ratio="pad")
    yield folder, None


@case("are stored quantized by")
def packed_weights(shop: Workshop) -> Iterator[Given]:
    dense = shop.llava()
    folder = shutil.copytree(dense, shop.home / "llava-awq")
    name = "model.layers.0.mlp.up_proj"
    edit_tensors(folder, lambda t: t.update({f"{name}.W_q": t.pop(f"{name}.weight")}))
    yield folder, None
    yield dense, None


def quantized(shop: Workshop, name: str, block: dict[str, object] | None, file: str) -> Path:
    """A checkpoint that GPTQ has stored, or llm-awq if there is no `quantization_config`."""
    linear, others = layers_of(shop.llava())
    folder = shop.home / name
    shutil.copytree(shop.home / "llava-tiny", folder, ignore=lambda *_: ["model.safetensors"])
    whole = {layer: quantize(w, 4, 32, symmetric=True) for layer, w in linear.items()}
    layers = {layer: gptq(w, 4) if block else llm_awq(w, 32) for layer, w in whole.items()}
    write_quantized(folder, layers, block, file=file, others=others)
    return folder


@case("quantized weights cannot be read otherwise")
def block_elsewhere(shop: Workshop) -> Iterator[Given]:
    block = gptq_config()
    folder = quantized(shop, "llava-gptq", block, "model.safetensors")
    edit_config(folder, quantization_config=None)
    yield folder, None
    edit_config(folder, quantization_config=block)
    yield folder, None


@case("or a file is damaged")
def block_of_another_model(shop: Workshop) -> Iterator[Given]:
    folder = quantized(shop, "llava-gptq", gptq_config(group_size=64), "model.safetensors")
    yield folder, None
    edit_config(folder, quantization_config=gptq_config())
    yield folder, None


@case("whose name for it must say bits and group size")
def renamed_pt(shop: Workshop) -> Iterator[Given]:
    folder = quantized(shop, "llava-llm-awq", None, "llava-v2.pt")
    yield folder, None
    (folder / "llava-v2.pt").rename(folder / "llava-w4-g32-awq-v2.pt")
    yield folder, None


@case("have another shape than")
def other_config(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    content = (folder / "config.json").read_bytes()
    edit_config(folder, intermediate_size=96)
    yield folder, None
    (folder / "config.json").write_bytes(content)
    yield folder, None


@case("Without them the model would answer at random")
def shard_half_there(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    content = (folder / "model.safetensors").read_bytes()
    edit_tensors(folder, lambda tensors: tensors.pop("model.norm.weight"))
    yield folder, None
    (folder / "model.safetensors").write_bytes(content)
    yield folder, None


@case("that have no place in the model")
def foreign_tensors(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    edit_config(folder, num_hidden_layers=1)
    yield folder, None
    edit_config(folder, num_hidden_layers=2)
    yield folder, None


@case("holds NaN or infinite values")
def diverged(shop: Workshop) -> Iterator[Given]:
    earlier = shop.llava("checkpoint-5")
    folder = shutil.copytree(earlier, shop.home / "checkpoint-6")
    edit_tensors(folder, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    yield folder, None
    yield earlier, None


@case("the adapter was trained on another model")
def adapter_of_another_width(shop: Workshop) -> Iterator[Given]:
    folder, base = lora(shop)
    wide = make_checkpoint(shop.home / "llava-wide", shop.tower, hidden_size=128)
    right = (folder / "adapter_model.bin").read_bytes()
    write_adapter(folder, load_file(wide / "model.safetensors"))
    name_base(folder, base.name)
    yield folder, base
    (folder / "adapter_model.bin").write_bytes(right)
    yield folder, base


@case("which would run code when loaded")
def pickled_object(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava(safetensors=False)
    weights = folder / "pytorch_model.bin"
    state = torch.load(weights, weights_only=True)
    torch.save({"w": Payload(folder / "executed")}, weights)
    yield folder, None
    torch.save(state, weights)
    yield folder, None


@case("is a Git LFS pointer")
def pointer(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    yield folder, None
    weights.write_bytes(content)
    yield folder, None


@case("it is truncated, damaged or not accessible")
def half_a_download(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    truncate(weights)
    yield folder, None
    weights.write_bytes(content)
    yield folder, None


@case("it belongs to another model")
def larger_tokenizer(shop: Workshop) -> Iterator[Given]:
    folder = shop.llava()
    right = shop.base()
    make_tokenizer(shop.home / "larger", vocab_size=700)
    shutil.copy(shop.home / "larger" / "tokenizer.model", folder)
    yield folder, None
    shutil.copy(right / "tokenizer.model", folder)
    yield folder, None


@case("Copy it from the model that the checkpoint was trained from")
def without_tokenizer_or_processor(shop: Workshop) -> Iterator[Given]:
    right = make_native(shop.home / "llava-tiny-hf", shop.llava(), shop.tower)
    folder = shop.home / "llava-tiny-sft"
    files = ("tokenizer.model", "preprocessor_config.json")
    shutil.copytree(right, folder, ignore=shutil.ignore_patterns(*files))
    yield folder, None
    for name in files:
        shutil.copy(right / name, folder)
    yield folder, None


@case("holds delta weights")
def deltas(shop: Workshop) -> Iterator[Given]:
    yield shop.llava("LLaVA-7b-delta-v1-1"), None
    yield shop.llava("LLaVA-7b-v1-1"), None


def rows() -> list[str]:
    """The messages of the page's table of checkpoints."""
    table = PAGE.read_text(encoding="utf-8").split("\n## Checkpoints\n")[1].split("\n## ")[0]
    return re.findall(r"^\| ``(.+?)``", table, re.MULTILINE)


def answer(path: Path | str, base: Path | None) -> torch.Tensor:
    """The first token's logits for a question about an image."""
    name = Path(path).name
    tokenizer, model, image_processor, _ = load_pretrained_model(
        str(path), None if base is None else str(base), name, device="cpu", dtype="float32"
    )
    prompt = "USER: <image>\nIs the dog on the table? ASSISTANT:"
    ids = tokenizer_image_token(prompt, tokenizer, return_tensors="pt")
    images = process_images([Image.new("RGB", (90, 50), "red")], image_processor, model.config)
    with torch.no_grad():
        return model(input_ids=ids[None], images=images, image_sizes=[(90, 50)]).logits[0, -1]


def test_every_remedy_for_a_checkpoint_is_followed() -> None:
    elsewhere = {"is a language model without a vision tower"}  # said once there are questions
    assert set(rows()) == CASES.keys() | elsewhere


@pytest.mark.few_cases(10)
@pytest.mark.parametrize("message", CASES)
def test_checkpoint_is_in_order_once_the_remedy_is_followed(
    message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = CASES[message](Workshop(tmp_path))
    path, base = next(attempts)
    try:
        answer(path, base)
        said = " ".join(record.getMessage() for record in caplog.records)
    except CheckpointError as error:
        said = str(error)
    assert re.search(re.escape(message).replace(re.escape("..."), ".*"), said), said
    number = 0
    for path, base in attempts:
        caplog.clear()
        inspect_checkpoint(str(path), None if base is None else str(base))
        assert answer(path, base).isfinite().all()
        warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert [r.getMessage() for r in warned if r.name.startswith("llava")] == []
        number += 1
    assert number
