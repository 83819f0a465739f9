"""Stored-quantized weights that cannot be read, or contradict their configuration, are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llava.errors import CheckpointError
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.stored_quantized import read_unpacked
from tests.quantized_formats import (
    AWQ,
    AWQ_FILE,
    NAME,
    Stored,
    awq,
    bnb_4,
    bnb_8,
    compressed,
    gptq,
    gptq_config,
    llm_awq,
    pack_quantized,
    quantize,
    random,
    twins,
    unpacked,
    words,
    write_quantized,
)
from tests.variants import make_lora, make_projector


def refusal(
    folder: Path, stored: Stored, block: dict[str, Any] | None, file: str = "model.safetensors"
) -> str:
    with pytest.raises(CheckpointError) as caught:
        unpacked(folder, stored, block, file)
    return str(caught.value)


GPTQ_FIELDS: list[tuple[str, Any, str]] = [
    ("bits", 5, "`quantization_config.bits` must be one of 2, 3, 4, 8, but is 5"),
    ("bits", None, "`quantization_config.bits` must be .*, but is None"),
    ("bits", 8, r"qzeros .* must be int32 of shape \[1, 16\], but is int32 of shape \[2, 8\]"),
    (
        "group_size",
        64,
        r"qzeros .* must be int32 of shape \[1, 8\], but .* \[2, 8\].*'group_size': 64",
    ),
    ("group_size", 0, "`quantization_config.group_size` must be"),
    ("desc_act", None, "`quantization_config.desc_act` must be true or false"),
    ("checkpoint_format", "marlin", "`quantization_config.checkpoint_format` must be .*'marlin'"),
    ("checkpoint_format", "gptq_v2", "stand for 8 everywhere, as `sym` is true"),
    ("format", "gptq_p", "`quantization_config.format` must be"),
    ("pack_dtype", "int16", "`quantization_config.pack_dtype` must be int32"),
    ("quant_method", "awq", "`quantization_config.zero_point` must be true, but is None"),
    ("quant_method", "bitsandbytes", "`quantization_config.quant_method` must be awq or gptq"),
    (
        "dynamic",
        {r"+:.*\.1\..*": {"bits": 8}},
        r"`quantization_config.dynamic` must be left out or empty or of layers kept dense alone "
        r"\(-:\), but is \{'\+:",
    ),
    ("dynamic", {".*": {}}, "`quantization_config.dynamic` must be left out"),
    ("quant_method", None, r"must be awq or gptq, as .*\.g_idx is stored so, but is None"),
]


@pytest.mark.parametrize(("field", "value", "message"), GPTQ_FIELDS)
def test_configuration_that_contradicts_gptq_is_refused(
    field: str, value: Any, message: str, tmp_path: Path
) -> None:
    stored = gptq(quantize(random(64, 64), 4, 32, symmetric=True), 4)
    with pytest.raises(CheckpointError, match=message) as caught:
        unpacked(tmp_path, stored, gptq_config() | {field: value})
    assert str(tmp_path / "config.json") in str(caught.value)


def test_layers_that_gptq_keeps_dense_are_nothing_to_refuse(tmp_path: Path) -> None:
    stored = gptq(quantize(random(64, 64), 4, 32, symmetric=True), 4)
    unpacked(tmp_path, stored, gptq_config(dynamic={"-:.*lm_head.*": {}}))


def test_method_that_is_not_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    stored = gptq(quantize(random(64, 64), 4, 32, symmetric=True), 4)
    message = refusal(tmp_path, stored, gptq_config(quant_method="auto-round"))
    assert "stored quantized by 'auto-round', as tensors such as" in message
    assert "Give the dense checkpoint that they were made from" in message
    assert "config.json" not in message
    with pytest.raises(CheckpointError, match=r"stored quantized by \['gptq'\]"):
        unpacked(tmp_path, stored, gptq_config(quant_method=["gptq"]))


def test_formats_of_gptq_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    stored = gptq(quantize(random(64, 64), 4, 32, symmetric=True), 4)
    block = gptq_config(checkpoint_format="gptq", format="gptq_v2")
    assert "be in one format, but is in gptq and gptq_v2" in refusal(tmp_path, stored, block)


@pytest.mark.parametrize("found", ["gemv", "gemv_fast", "marlin", None])
def test_other_layouts_of_awq_are_refused(found: str | None, tmp_path: Path) -> None:
    stored = awq(quantize(random(64, 64), 4, 32, symmetric=False))
    message = refusal(tmp_path, stored, AWQ | {"version": found})
    assert f"`quantization_config.version` must be one of gemm, GEMM, but is {found!r}" in message


def test_indivisible_groups_of_awq_are_refused(tmp_path: Path) -> None:
    stored = awq(quantize(random(64, 64), 4, 32, symmetric=False))
    message = refusal(tmp_path, stored, AWQ | {"group_size": 48})
    assert "must have groups of 48 inputs, but has 64 inputs" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.pop("qweight"), "qweight .* must be there, but is missing"),
        (lambda parts: parts.pop("qzeros"), "qzeros .* must be there, but is missing"),
        (lambda parts: parts.pop("scales"), "scales .* must be there, but is missing"),
        (lambda parts: parts["g_idx"].fill_(2), "g_idx .* groups from 0 to 1, but names 2 to 2"),
        (lambda parts: parts["g_idx"].fill_(-1), "g_idx .* from 0 to 1, but names -1 to -1"),
        (lambda parts: parts["g_idx"].fill_(1), "g_idx .* must name groups of neighbours"),
        (lambda parts: parts["scales"].fill_(torch.inf), "scales .* must be finite"),
        (lambda parts: parts["scales"].fill_(torch.nan), "scales .* must be finite"),
        (lambda parts: parts.update(qweight=parts["qweight"].long()), "qweight .* be int32"),
        (lambda parts: parts.update(qweight=parts["qweight"][0]), "qweight .* be a matrix"),
        (lambda parts: parts.update(weight=torch.ones(64, 64)), "weight .* must be left out"),
    ],
)
def test_parts_of_gptq_that_are_missing_or_damaged_are_refused(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str, tmp_path: Path
) -> None:
    stored = gptq(quantize(random(64, 64), 4, 32, symmetric=True), 4)
    change(stored.parts)
    with pytest.raises(CheckpointError, match=rf"{NAME}\.{message}"):
        unpacked(tmp_path, stored, gptq_config())


SCHEMES: list[tuple[dict[str, Any], str]] = [
    ({"num_bits": 8}, r"weight_packed .* be int32 of shape \[64, 16\]"),
    (
        {"num_bits": 3},
        "`quantization_config.config_groups.*.weights.num_bits` must be one of 2, 4, 8",
    ),
    ({"group_size": 16}, r"weight_scale .* of shape \[64, 4\]"),
    ({"group_size": None}, "weights.group_size` must be a whole number >= 1, but is None"),
    ({"strategy": "block"}, "weights.strategy` must be one of group, channel, tensor, but is"),
    ({"strategy": "channel"}, r"weight_scale .* of shape \[64, 1\], but is .* \[64, 2\]"),
    ({"symmetric": False}, "weight_zero_point .* must be there, but is missing"),
    ({"symmetric": None}, "weights.symmetric` must be true or false"),
    ({"type": "float"}, "weights.type` must be int"),
]


@pytest.mark.parametrize(("scheme", "message"), SCHEMES)
def test_scheme_that_contradicts_compressed_tensors_is_refused(
    scheme: dict[str, Any], message: str, tmp_path: Path
) -> None:
    stored = pack_quantized(quantize(random(64, 64), 4, 32, symmetric=True), 4, symmetric=True)
    block = compressed("pack-quantized", **({"num_bits": 4, "group_size": 32} | scheme))
    with pytest.raises(CheckpointError, match=message):
        unpacked(tmp_path, stored, block)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "marlin-24"),
        ("format", "int-quantized"),
        ("format", None),
        ("config_groups", {}),
        ("config_groups", None),
        ("kv_cache_scheme", {"num_bits": 8}),
        ("transform_config", {"config_groups": {"R1": {}}}),
        ("sparsity_config", {"format": "sparse-24-bitmask"}),
        ("quant_method", "gptq"),
    ],
)
def test_block_that_compressed_tensors_cannot_be_read_by_is_refused(
    field: str, value: Any, tmp_path: Path
) -> None:
    stored = pack_quantized(quantize(random(64, 64), 4, 32, symmetric=True), 4, symmetric=True)
    block = compressed("pack-quantized", num_bits=4, group_size=32) | {field: value}
    at = "config_groups.*.weights.num_bits" if value == "int-quantized" else field
    assert f"`quantization_config.{at}` must be" in refusal(tmp_path, stored, block)


def test_groups_of_compressed_tensors_that_differ_are_refused(tmp_path: Path) -> None:
    stored = pack_quantized(quantize(random(64, 64), 4, 32, symmetric=True), 4, symmetric=True)
    block = compressed("pack-quantized", num_bits=4, group_size=32)
    group = block["config_groups"]["group_0"]
    for change in (
        {"weights": {**group["weights"], "num_bits": 8}},
        {"weights": None},
        {"input_activations": {"dynamic": False}},
    ):
        block["config_groups"]["group_1"] = {**group, **change}
        assert "`quantization_config.config_groups` must be" in refusal(tmp_path, stored, block)


def test_zeros_beside_a_symmetric_scheme_are_refused(tmp_path: Path) -> None:
    stored = pack_quantized(quantize(random(64, 64), 4, 32, symmetric=False), 4, symmetric=False)
    block = compressed("pack-quantized", num_bits=4, group_size=32)
    assert "weight_zero_point in" in refusal(tmp_path, stored, block)


def state_of(**fields: Any) -> Callable[[dict[str, torch.Tensor]], Any]:
    """Changes what bitsandbytes says beside a weight."""

    def change(parts: dict[str, torch.Tensor]) -> None:
        name = "weight.quant_state.bitsandbytes__nf4"
        state = json.loads(bytes(parts[name].tolist())) | fields
        parts[name] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    return change


def moved(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda parts: parts.update({new: parts.pop(old)})


STATE = "weight.quant_state.bitsandbytes__"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (state_of(quant_type="fp4"), "have fp4 as `quant_type`"),
        (state_of(quant_type="int4"), "as `quant_type`"),
        (state_of(dtype="float64"), "as `dtype`"),
        (state_of(blocksize=128), r"weight\.absmax .* of shape \[32\]"),
        (state_of(blocksize=0), "as `blocksize`"),
        (state_of(shape=[64]), "as `shape`"),
        (state_of(shape=[64, 128]), r"weight\.absmax .* of shape \[128\]"),
        (state_of(nested_offset=None), "as `nested_offset`"),
        (moved(f"{STATE}nf4", f"{STATE}fp4"), "as `quant_type`"),
        (lambda parts: parts.pop(f"{STATE}nf4"), "must be there, but is missing"),
        (lambda parts: parts[f"{STATE}nf4"].fill_(65), "must be JSON"),
        (lambda parts: parts.pop("weight.nested_absmax"), r"weight\.absmax .* be float16 or"),
        (lambda parts: parts.pop("weight.nested_quant_map"), "must be there, but is missing"),
        (lambda parts: parts.pop("weight.absmax"), "must be there, but is missing"),
        (lambda parts: parts["weight.quant_map"].fill_(0), "quant_map .* must be that of nf4"),
        (lambda parts: parts["weight.nested_absmax"].fill_(torch.nan), "must be finite"),
        (lambda parts: parts.update(weight=parts["weight"].half()), "must be uint8"),
    ],
)
def test_parts_of_bitsandbytes_that_are_missing_or_damaged_are_refused(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str, tmp_path: Path
) -> None:
    stored = bnb_4(random(64, 64))
    change(stored.parts)
    block = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with pytest.raises(CheckpointError, match=message) as caught:
        unpacked(tmp_path, stored, block)
    assert NAME in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"load_in_4bit": False, "load_in_8bit": True},
            "`quantization_config.load_in_4bit` must be",
        ),
        ({"bnb_4bit_quant_type": "fp4"}, "have fp4 as `quant_type`"),
        ({"bnb_4bit_quant_storage": "bfloat16"}, r"be bfloat16 of shape \[1024, 1\], but is uint8"),
        ({"bnb_4bit_quant_storage": "int4"}, "quant_storage` must be one of uint8, float16"),
        ({"quant_method": "gptq"}, "quant_method` must be bitsandbytes or left out"),
    ],
)
def test_configuration_that_contradicts_bitsandbytes_is_refused(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    block = {"quant_method": "bitsandbytes", "load_in_4bit": True} | fields
    with pytest.raises(CheckpointError, match=message):
        unpacked(tmp_path, bnb_4(random(64, 64)), block)


def test_other_orders_of_8_bits_are_refused(tmp_path: Path) -> None:
    stored = bnb_8(random(64, 64))
    stored.parts["weight_format"] += 2
    assert f"{NAME}.weight_format in" in refusal(tmp_path, stored, None)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("llava-awq-v2.pt", "whose name for it must say bits and group size"),
        ("llava-w3-g32-awq-v2.pt", "must say bits and group size"),
        ("llava-w4-g96-awq-v2.pt", "must say bits and group size"),
        ("llava-w4-g64-awq-v2.pt", r"scales .* of shape \[16, 64\]"),
        ("model.safetensors", "must say bits and group size"),
    ],
)
def test_name_that_contradicts_llm_awq_is_refused(file: str, message: str, tmp_path: Path) -> None:
    stored = llm_awq(quantize(random(64, 64), 4, 32, symmetric=False), 32)
    with pytest.raises(CheckpointError, match=message) as caught:
        unpacked(tmp_path, stored, None, file)
    assert file in str(caught.value)


def test_number_of_groups_that_contradicts_llm_awq_is_refused(tmp_path: Path) -> None:
    stored = llm_awq(quantize(random(8, 512), 4, 128, symmetric=False), 128)
    file = AWQ_FILE.format(256)
    assert "must have 2 groups, but has another" in refusal(tmp_path, stored, None, file)
    stored = llm_awq(quantize(random(8, 512), 4, 256, symmetric=False), 256)
    file = AWQ_FILE.format(128)
    assert "must have 4 groups, but has another" in refusal(tmp_path, stored, None, file)


def test_files_of_llm_awq_that_are_several_or_of_its_first_version_are_refused(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    packed, _ = twins("llm-awq", tiny_checkpoint, tiny_tower, tmp_path)
    file = packed / AWQ_FILE.format(32)
    again = shutil.copy(file, packed / "other-w4-g32-awq-v2.pt")
    with pytest.raises(CheckpointError, match=r"2 files of quantized weights: llava-.*other-"):
        inspect_checkpoint(str(packed))
    again.unlink()
    file.rename(packed / "llava-w4-g32-awq.pt")
    with pytest.raises(CheckpointError, match="are stored quantized by llm-awq"):
        inspect_checkpoint(str(packed))


def test_configuration_beside_llm_awq_is_refused(tmp_path: Path) -> None:
    stored = llm_awq(quantize(random(64, 64), 4, 32, symmetric=False), 32)
    message = refusal(tmp_path, stored, AWQ, AWQ_FILE.format(32))
    assert "`quantization_config.quant_method` must be left out" in message


def test_two_methods_at_once_are_refused(tmp_path: Path) -> None:
    mixed = {
        NAME: gptq(quantize(random(64, 64), 4, 32, symmetric=True), 4),
        "other": bnb_8(random(8, 8)),
    }
    for block in (gptq_config(), {"quant_method": "bitsandbytes", "load_in_8bit": True}):
        path = write_quantized(tmp_path, mixed, block)
        with pytest.raises(CheckpointError, match=r"stored (quantized by|so)"):
            read_unpacked([path], tmp_path, torch.float32)


@pytest.mark.parametrize("kind", ["projector", "lora", "tower"])
def test_quantized_weights_beside_the_language_model_are_refused(
    kind: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    _, dense = twins("GPTQ", tiny_checkpoint, tiny_tower, tmp_path)
    stored = bnb_8(random(64, 32))
    if kind == "tower":
        folder, base, path = dense, None, tmp_path / tiny_tower.name / "model.safetensors"
        name = "vision_model.encoder.layers.0.mlp.fc1"
        tensors = load_file(path)
    else:
        made = make_projector if kind == "projector" else make_lora
        folder, base = made(tmp_path / f"llava-{kind}", tiny_checkpoint), dense
        path = folder / ("mm_projector.bin" if kind == "projector" else "non_lora_trainables.bin")
        name = "model.mm_projector.0"
        tensors = torch.load(path, weights_only=True)
    tensors |= {f"{name}.{part}": tensor for part, tensor in stored.parts.items()}
    save_file(tensors, path) if kind == "tower" else torch.save(tensors, path)
    with pytest.raises(CheckpointError, match=r"stored quantized by bitsandbytes, 8 bit.*SCB"):
        load_pretrained_model(str(folder), base and str(base), folder.name, device="cpu")


def test_values_lie_end_to_end_from_the_lowest_bit_on() -> None:
    assert words(torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9]]), 4).tolist() == [[-0x789ABCDF, 9]]
    assert words(torch.tensor([[7, 0, 5]]), 3).tolist() == [[0b101000111]]
