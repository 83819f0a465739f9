"""Weights that other programs stored quantized are unpacked to what they stand for, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llava.errors import CheckpointError
from llava.images import process_images
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.quantization import Quantization
from llava.tokens import tokenizer_image_token
from tests.quantized_formats import (
    AWQ,
    AWQ_FILE,
    FORMATS,
    NAME,
    Stored,
    awq,
    bnb_4,
    bnb_8,
    compressed,
    copied,
    float_quantized,
    gptq,
    gptq_config,
    int_quantized,
    layers_of,
    llm_awq,
    pack_quantized,
    quantize,
    random,
    twins,
    unpacked,
)
from tests.variants import make_lora, make_native, make_projector, merged_by_hand, write_adapter


def refusal(folder: Path, stored: Stored, block: dict[str, Any] | None) -> str:
    with pytest.raises(CheckpointError) as caught:
        unpacked(folder, stored, block)
    return str(caught.value)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["sym", "zeros", "gptq_v2"])
def test_gptq_is_read_exactly(bits: int, form: str, tmp_path: Path) -> None:
    layer = quantize(random(64, 96), bits, 32, symmetric=form == "sym")
    block = gptq_config(bits, sym=form == "sym")
    block |= {"checkpoint_format": form} if form == "gptq_v2" else {}
    stored = gptq(layer, bits, less=0 if form == "gptq_v2" else 1)
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)


@pytest.mark.parametrize("size", [32, 64, -1])
def test_gptq_follows_the_order_of_its_activations(size: int, tmp_path: Path) -> None:
    order = torch.randperm(96, generator=torch.Generator().manual_seed(1))
    layer = quantize(random(40, 96), 4, 96 if size == -1 else size, symmetric=False, order=order)
    stored = gptq(layer, 4)
    block = gptq_config(group_size=size, sym=False, desc_act=True)
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)
    if size == 32:
        block["desc_act"] = False
        assert "g_idx" in refusal(tmp_path, stored, block)


def test_gptq_in_order_needs_no_index(tmp_path: Path) -> None:
    stored = gptq(quantize(random(40, 96), 4, 64, symmetric=True), 4, with_order=False)
    assert torch.equal(unpacked(tmp_path, stored, gptq_config(group_size=64)), stored.dense)
    block = gptq_config(group_size=64, desc_act=True)
    assert f"{NAME}.g_idx" in refusal(tmp_path, stored, block)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zero_that_gptqmodel_took_one_from_is_read_and_else_refused(
    bits: int, tmp_path: Path
) -> None:
    layer = quantize(random(64, 64), bits, 32, symmetric=False)
    layer.zeros[::5] = 0
    ones = sum(1 << i for i in range(0, 32, bits))
    stored = gptq(layer, bits, less=0)
    stored.parts["qzeros"] -= ones  # from whole words, so that a zero borrows from its neighbour
    block = gptq_config(bits, sym=False)
    meta = {"quantizer": ["gptqmodel:2.2.0"]}
    assert torch.equal(unpacked(tmp_path, stored, block | {"meta": meta}), layer.dense)
    assert "as programs differ in a zero" in refusal(tmp_path, stored, block)


@pytest.mark.parametrize("size", [32, 96, -1])
def test_awq_is_read_exactly(size: int, tmp_path: Path) -> None:
    stored = awq(quantize(random(40, 96), 4, 96 if size == -1 else size, symmetric=False))
    assert torch.equal(unpacked(tmp_path, stored, AWQ | {"group_size": size}), stored.dense)


@pytest.mark.parametrize(("size", "num_inputs"), [(32, 64), (32, 192), (64, 192), (128, 1280)])
def test_llm_awq_is_read_exactly(size: int, num_inputs: int, tmp_path: Path) -> None:
    stored = llm_awq(quantize(random(24, num_inputs), 4, size, symmetric=False), size)
    found = unpacked(tmp_path, stored, None, AWQ_FILE.format(size))
    assert torch.equal(found, stored.dense)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("strategy", "size"), [("group", 32), ("channel", None), ("channel", -1)])
@pytest.mark.parametrize("zeros", ["none", "packed", "as they are"])
def test_packed_compressed_tensors_are_read_exactly(
    bits: int, strategy: str, size: int | None, zeros: str, tmp_path: Path
) -> None:
    symmetric = zeros == "none"
    layer = quantize(random(37, 96), bits, 32 if strategy == "group" else 96, symmetric=symmetric)
    stored = pack_quantized(layer, bits, symmetric=symmetric, packed_zeros=zeros == "packed")
    scheme = {"num_bits": bits, "strategy": strategy, "group_size": size, "symmetric": symmetric}
    assert torch.equal(
        unpacked(tmp_path, stored, compressed("pack-quantized", **scheme)), stored.dense
    )


def test_packed_compressed_tensors_end_within_a_word(tmp_path: Path) -> None:
    stored = pack_quantized(quantize(random(5, 30), 4, 10, symmetric=True), 4, symmetric=True)
    block = compressed("pack-quantized", num_bits=4, group_size=10)
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)


def test_packed_compressed_tensors_follow_the_order_of_their_activations(tmp_path: Path) -> None:
    order = torch.randperm(96, generator=torch.Generator().manual_seed(1))
    layer = quantize(random(8, 96), 4, 32, symmetric=True, order=order)
    stored = pack_quantized(layer, 4, symmetric=True)
    stored.parts["weight_g_idx"] = layer.groups.int()
    block = compressed("pack-quantized", num_bits=4, group_size=32, actorder="group")
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)
    block = compressed("pack-quantized", num_bits=4, group_size=32, actorder="weight")
    assert "weight_g_idx" in refusal(tmp_path, stored, block)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("strategy", ["group", "channel"])
def test_whole_bytes_of_compressed_tensors_are_read_exactly(
    symmetric: bool, strategy: str, tmp_path: Path
) -> None:
    layer = quantize(random(24, 96), 8, 32 if strategy == "group" else 96, symmetric=symmetric)
    stored = int_quantized(layer, symmetric=symmetric)
    scheme = {"num_bits": 8, "strategy": strategy, "symmetric": symmetric}
    block = compressed("int-quantized", **scheme, group_size=32 if strategy == "group" else None)
    block["config_groups"]["group_0"]["input_activations"] = {"dynamic": True, "num_bits": 8}
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)


@pytest.mark.parametrize("form", ["pack-quantized", "int-quantized"])
def test_one_zero_of_a_whole_weight_is_not_packed(tmp_path: Path, form: str) -> None:
    store = {
        "pack-quantized": lambda one: pack_quantized(one, 8, symmetric=False, packed_zeros=False),
        "int-quantized": lambda one: int_quantized(one, symmetric=False),
    }[form]
    layer = quantize(random(24, 61), 8, 61, symmetric=False)
    scale, zero = torch.tensor([0.25]).half(), torch.tensor([101])
    stored = store(layer._replace(zeros=zero.expand(24, 1), scales=scale.expand(24, 1)))
    stored.parts["weight_scale"] = scale
    stored.parts["weight_zero_point"] = stored.parts["weight_zero_point"][0].clone()
    block = compressed(form, num_bits=8, strategy="tensor", symmetric=False)
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)


@pytest.mark.parametrize("strategy", ["channel", "tensor"])
def test_floats_of_8_bits_are_read_exactly(strategy: str, tmp_path: Path) -> None:
    stored = float_quantized(random(24, 96))
    dense = stored.dense
    if strategy == "tensor":
        stored.parts["weight_scale"] = torch.tensor([0.25])
        dense = stored.parts["weight"].float() / 4
    block = compressed("float-quantized", num_bits=8, strategy=strategy)
    assert torch.equal(unpacked(tmp_path, stored, block), dense)


@pytest.mark.parametrize("block", [{"quant_method": "bitsandbytes", "load_in_8bit": True}, None])
def test_8_bits_of_bitsandbytes_are_read_exactly(
    block: dict[str, Any] | None, tmp_path: Path
) -> None:
    stored = bnb_8(random(24, 40))
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        (torch.float16, (48, 128), 64),
        (torch.bfloat16, (513, 64), 64),
        (torch.float32, (3, 77), 128),
    ],
)
def test_4_bits_of_bitsandbytes_are_read_as_it_reads_them(
    kind: str, nested: bool, dtype: torch.dtype, shape: tuple[int, int], size: int, tmp_path: Path
) -> None:
    stored = bnb_4(random(*shape).to(dtype), kind, nested=nested, size=size)
    block = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    assert torch.equal(unpacked(tmp_path, stored, block), stored.dense.float())


def load(folder: Path, base: Path | None = None, **options: Any) -> Any:
    return load_pretrained_model(
        str(folder), base and str(base), folder.name, device="cpu", **options
    )


def logits_of(loaded: Any) -> torch.Tensor:
    tokenizer, model, processor, _ = loaded
    prompt = "USER: <image>\nWhat color is the dog? ASSISTANT:"
    ids = tokenizer_image_token(prompt, tokenizer, return_tensors="pt")
    image = Image.radial_gradient("L").convert("RGB").resize((90, 50))
    pixels = process_images([image], processor, model.config)
    with torch.no_grad():
        return model(input_ids=ids[None], images=pixels, image_sizes=[(90, 50)]).logits[0, -1]


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("method", FORMATS)
def test_stored_quantized_checkpoint_answers_as_its_dense_twin(
    method: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    packed, dense = twins(method, tiny_checkpoint, tiny_tower, tmp_path)
    loaded, twin = load(packed), load(dense)
    assert torch.equal(logits_of(loaded), logits_of(twin))
    report, plain = loaded[1].load_report, twin[1].load_report
    assert (report.quantized_by, report.num_unpacked) == (method.removesuffix(", in words"), 14)
    assert (plain.quantized_by, plain.num_unpacked) == ("", 0)
    assert report.num_loaded == plain.num_loaded
    assert report.content_hash != plain.content_hash
    found = inspect_checkpoint(str(packed)).files
    assert packed / FORMATS[method][2] in found
    half = load(packed, dtype="auto")[1]
    assert half.get_submodule(NAME).weight.dtype == torch.float16


def test_native_checkpoint_is_unpacked_with_its_tower(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    native = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    packed, dense = twins("pack-quantized", native, tiny_tower, tmp_path)
    loaded = load(packed)
    assert torch.equal(logits_of(loaded), logits_of(load(dense)))
    assert loaded[1].load_report.num_unpacked == 14 + 3 * 4
    adapter = write_adapter(tmp_path / "adapter", load_file(native / "model.safetensors"))
    tuned = logits_of(load(adapter, packed))
    assert torch.equal(tuned, logits_of(load(adapter, dense)))
    assert not torch.allclose(tuned, logits_of(loaded), atol=0.05)


def test_layer_whose_parts_lie_in_several_files_is_read(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    packed, dense = twins("GPTQ", tiny_checkpoint, tiny_tower, tmp_path)
    tensors = load_file(packed / "model.safetensors")
    (packed / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-{i}.safetensors": names[i::3] for i in range(3)}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, packed / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (packed / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(logits_of(load(packed)), logits_of(load(dense)))


def test_adapter_is_merged_into_the_unpacked_weights_of_its_base(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    packed, dense = twins("bitsandbytes, 4 bit", tiny_checkpoint, tiny_tower, tmp_path)
    lora = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    merged = copied(tiny_checkpoint, tiny_tower, tmp_path, "llava-merged")
    tensors = merged_by_hand(load_file(dense / "model.safetensors"), lora)
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    loaded = load(lora, packed)
    torch.testing.assert_close(logits_of(loaded), logits_of(load(merged)), rtol=0, atol=1e-4)
    assert loaded[1].load_report.num_unpacked == 14
    projector = make_projector(tmp_path / "llava-pretrain", tiny_checkpoint)
    assert torch.equal(logits_of(load(projector, packed)), logits_of(load(dense)))


def test_unpacked_weights_are_quantized_as_dense_ones(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    packed, dense = twins("AWQ", tiny_checkpoint, tiny_tower, tmp_path)
    found, expected = (
        logits_of(load(folder, quantization=Quantization(kind="nf4"))) for folder in (packed, dense)
    )
    assert torch.equal(found, expected)


def test_biases_of_zeros_that_gptq_adds_are_left_out_and_others_refused(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    packed, dense = twins("GPTQ", tiny_checkpoint, tiny_tower, tmp_path)
    tensors = load_file(packed / "model.safetensors")
    biases = {f"{name}.bias": torch.zeros(64).half() for name in layers_of(tiny_checkpoint)[0]}
    save_file(tensors | biases, packed / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits_of(load(packed)), logits_of(load(dense)))
    biases[f"{NAME}.bias"][3] = 1
    save_file(tensors | biases, packed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"up_proj\.bias.* do not belong together"):
        load(packed)
