"""Layers quantized as other programs store them, packed bit by bit as each format defines it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from llava.model.stored_quantized import read_unpacked

Parts = dict[str, torch.Tensor]


class Whole(NamedTuple):
    """A layer: `values` (O, I), `zeros` and `scales` (O, G), and each input's group (I,)."""

    values: torch.Tensor
    zeros: torch.Tensor
    scales: torch.Tensor
    groups: torch.Tensor

    @property
    def dense(self) -> torch.Tensor:
        """(O, I) float32, which it stands for."""
        differences = self.values - self.zeros[:, self.groups]
        return differences.float() * self.scales.float()[:, self.groups]


class Stored(NamedTuple):
    """What a program writes: a layer's parts by what follows its name, and the dense weight."""

    parts: Parts
    dense: torch.Tensor


def quantize(
    weight: torch.Tensor,
    bits: int,
    size: int,
    *,
    symmetric: bool,
    order: torch.Tensor | None = None,
) -> Whole:
    """Rounds a weight (O, I) to unsigned integers, with a scale for `size` inputs of `order`."""
    num_inputs = weight.shape[1]
    groups = torch.empty(num_inputs, dtype=torch.long)
    groups[torch.arange(num_inputs) if order is None else order] = torch.arange(num_inputs) // size
    most, middle = 2**bits - 1, 2 ** (bits - 1)
    scales, zeros = [], []
    for group in range(int(groups.max()) + 1):
        part = weight[:, groups == group].float()
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        scale = torch.maximum(high, -low) / middle if symmetric else (high - low) / most
        scale = scale.clamp(min=1e-3).half().float()
        zero = torch.full_like(scale, middle) if symmetric else (-low / scale).round()
        scales.append(scale)
        zeros.append(zero.clamp(1, most))  # the first format of GPTQ has no zero
    scale, zero = torch.stack(scales, 1), torch.stack(zeros, 1)
    values = (weight.float() / scale[:, groups] + zero[:, groups]).round().clamp(0, most)
    return Whole(values.long(), zero.long(), scale.half(), groups)


def words(values: torch.Tensor, bits: int, width: int = 32) -> torch.Tensor:
    """(R, C) integers to (R, ceil(C * bits / width)): end to end, the lowest bits first."""
    rows = []
    for row in values.tolist():
        number = sum(value << (bits * i) for i, value in enumerate(row))
        count = -(-len(row) * bits // width)
        content = number.to_bytes(count * width // 8, "little")
        kind = torch.int32 if width == 32 else torch.int16
        rows.append(torch.frombuffer(bytearray(content), dtype=kind))
    return torch.stack(rows)


def gptq(layer: Whole, bits: int, *, less: int = 1, with_order: bool = True) -> Stored:
    """GPTQ: packed along the inputs, zeros along the outputs and stored `less` one."""
    parts = {
        "qweight": words(layer.values, bits).t().contiguous(),
        "qzeros": words(layer.zeros.t() - less, bits),
        "scales": layer.scales.t().contiguous(),
        "g_idx": layer.groups.int(),
    }
    return Stored(
        parts if with_order else {k: v for k, v in parts.items() if k != "g_idx"}, layer.dense
    )


def _by_kernel(values: torch.Tensor) -> torch.Tensor:
    return values.unflatten(1, (-1, 8))[..., [0, 2, 4, 6, 1, 3, 5, 7]].flatten(1)


def awq(layer: Whole) -> Stored:
    """AWQ's gemm layout: packed along the outputs, even ones of eight first."""
    parts = {
        "qweight": words(_by_kernel(layer.values.t()), 4),
        "qzeros": words(_by_kernel(layer.zeros.t()), 4),
        "scales": layer.scales.t().contiguous(),
    }
    return Stored(parts, layer.dense)


def llm_awq(layer: Whole, size: int) -> Stored:
    """llm-awq's second version: 64 inputs of four outputs by turns, four values a word of 16."""
    num_outputs, num_inputs = layer.values.shape
    spread = [8 * j + 2 * i + k for i in range(4) for j in range(4) for k in range(2)]
    source = [spread[8 * i + j] for i in range(4) for j in (0, 2, 4, 6, 1, 3, 5, 7)]
    ordered = layer.values.unflatten(1, (-1, 32))[..., source].flatten(1)
    rows = []
    for first in range(0, num_outputs, 4):
        blocks = [ordered[first : first + 4, i : i + 64] for i in range(0, num_inputs, 64)]
        rows.append(torch.cat([block.flatten() for block in blocks]))
    num_groups = num_inputs // size
    multiple = {32: 32, 64: 16}.get(size, 8)
    scales = torch.zeros(-(-num_groups // multiple) * multiple, num_outputs).half()
    scales[:num_groups] = layer.scales.t()
    zeros = torch.zeros_like(scales)
    zeros[:num_groups] = -(layer.scales.float() * layer.zeros).t().half()
    packed = words(torch.stack(rows), 4, width=16)
    shift = zeros[:num_groups].t().float()[:, layer.groups]
    dense = layer.values.float() * layer.scales.float()[:, layer.groups] + shift
    return Stored({"qweight": packed, "scales": scales, "scaled_zeros": zeros}, dense)


def pack_quantized(
    layer: Whole, bits: int, *, symmetric: bool, packed_zeros: bool = True
) -> Stored:
    """compressed-tensors: packed along the inputs, with half the range added."""
    parts = {
        "weight_packed": words(layer.values, bits),
        "weight_scale": layer.scales,
        "weight_shape": torch.tensor(layer.values.shape),
    }
    if not symmetric and packed_zeros:
        parts["weight_zero_point"] = words(layer.zeros.t(), bits).t().contiguous()
    elif not symmetric:
        parts["weight_zero_point"] = (layer.zeros - 2 ** (bits - 1)).to(torch.int8)
    return Stored(parts, layer.dense)


def int_quantized(layer: Whole, *, symmetric: bool) -> Stored:
    """compressed-tensors: 8 bit, not packed."""
    parts = {"weight": (layer.values - 128).to(torch.int8), "weight_scale": layer.scales}
    if not symmetric:
        parts["weight_zero_point"] = (layer.zeros - 128).to(torch.int8)
    return Stored(parts, layer.dense)


def float_quantized(weight: torch.Tensor) -> Stored:
    """compressed-tensors: 8 bit floats with a scale for each output."""
    scale = (weight.float().abs().amax(1, keepdim=True) / 448).bfloat16()
    values = (weight.float() / scale.float()).to(torch.float8_e4m3fn)
    return Stored({"weight": values, "weight_scale": scale}, values.float() * scale.float())


def bnb_8(weight: torch.Tensor) -> Stored:
    """bitsandbytes: 8 bit, in 127ths of the largest magnitude of each output."""
    most = weight.float().abs().amax(1)
    values = (weight.float() * 127 / most[:, None]).round().to(torch.int8)
    parts = {"weight": values, "SCB": most, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return Stored(parts, values.float() * most[:, None] / 127)


def bnb_4(
    weight: torch.Tensor,
    kind: str = "nf4",
    *,
    nested: bool = True,
    size: int = 64,
    storage: torch.dtype = torch.uint8,
) -> Stored:
    """bitsandbytes: 4 bit, by itself; the dense weight is what it makes of them."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(
        weight,
        blocksize=size,
        compress_statistics=nested,
        quant_type=kind,
        quant_storage=storage,
    )
    described = {f"weight.{name}": part for name, part in state.as_dict(packed=True).items()}
    dense = dequantize_4bit(packed, state)
    return Stored({"weight": packed, **described}, dense)


def compressed(form: str, **scheme: Any) -> dict[str, Any]:
    """A `quantization_config` of compressed-tensors with one scheme for all layers."""
    kind = "float" if form == "float-quantized" else "int"
    weights = {"type": kind, "symmetric": True, "strategy": "group", "dynamic": False, **scheme}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    groups = {"group_0": group}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}


def gptq_config(bits: int = 4, **fields: Any) -> dict[str, Any]:
    """A `quantization_config` of GPTQ."""
    known = {"quant_method": "gptq", "bits": bits, "group_size": 32, "sym": True, "desc_act": False}
    return {**known, **fields}


AWQ = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": 32,
    "zero_point": True,
    "version": "gemm",
}


def write_quantized(
    folder: Path,
    layers: Mapping[str, Stored],
    block: Mapping[str, Any] | None,
    *,
    file: str = "model.safetensors",
    others: Sequence[tuple[str, torch.Tensor]] = (),
) -> Path:
    """Writes layers and other tensors as one file, and `block` into the config.json beside it."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    extra = {} if block is None else {"quantization_config": block}
    path.write_text(json.dumps(config | extra), encoding="utf-8")
    parts = {f"{name}.{part}": t for name, one in layers.items() for part, t in one.parts.items()}
    tensors = {name: tensor.contiguous() for name, tensor in {**dict(others), **parts}.items()}
    if file.endswith(".safetensors"):
        save_file(tensors, folder / file, metadata={"format": "pt"})
    else:
        torch.save(tensors, folder / file)
    return folder / file


def is_layer(name: str) -> bool:
    """Whether a tensor is the weight of one of the language model's linear layers."""
    return ".layers." in name and name.endswith("_proj.weight")


def layers_of(folder: Path) -> tuple[dict[str, torch.Tensor], list[tuple[str, torch.Tensor]]]:
    """The linear layers of a checkpoint by name, and its other tensors."""
    tensors = load_file(folder / "model.safetensors")
    linear = {n.removesuffix(".weight"): t for n, t in tensors.items() if is_layer(n)}
    return linear, [(name, t) for name, t in tensors.items() if not is_layer(name)]


NAME = "model.layers.0.mlp.up_proj"
AWQ_FILE = "llava-w4-g{}-awq-v2.pt"


def random(num_outputs: int, num_inputs: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_outputs, num_inputs, generator=generator).half()


def unpacked(
    folder: Path, stored: Stored, block: dict[str, Any] | None, file: str = "model.safetensors"
) -> torch.Tensor:
    """What a layer is read as, in float32."""
    path = write_quantized(folder, {NAME: stored}, block, file=file)
    tensors, _, number = read_unpacked([path], folder, torch.float32)
    assert (list(tensors), number) == ([f"{NAME}.weight"], 1)
    return tensors[f"{NAME}.weight"]


# What programs make of a float16 weight, with the `quantization_config` that they write.
FORMATS: dict[str, tuple[Callable[[torch.Tensor], Stored], dict[str, Any] | None, str]] = {
    "GPTQ": (
        lambda w: gptq(quantize(w, 4, 32, symmetric=False), 4),
        gptq_config(sym=False),
        "model.safetensors",
    ),
    "AWQ": (lambda w: awq(quantize(w, 4, 32, symmetric=False)), AWQ, "pytorch_model.bin"),
    "llm-awq": (
        lambda w: llm_awq(quantize(w, 4, 32, symmetric=False), 32),
        None,
        AWQ_FILE.format(32),
    ),
    "pack-quantized": (
        lambda w: pack_quantized(quantize(w, 4, 32, symmetric=True), 4, symmetric=True),
        compressed("pack-quantized", num_bits=4, group_size=32),
        "model.safetensors",
    ),
    "int-quantized": (
        lambda w: int_quantized(quantize(w, 8, w.shape[1], symmetric=True), symmetric=True),
        compressed("int-quantized", num_bits=8, strategy="channel"),
        "model.safetensors",
    ),
    "float-quantized": (
        float_quantized,
        compressed("float-quantized", num_bits=8, strategy="channel"),
        "model.safetensors",
    ),
    "bitsandbytes, 8 bit": (
        bnb_8,
        {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False},
        "model.safetensors",
    ),
    "bitsandbytes, 4 bit": (
        bnb_4,
        {"quant_method": "bitsandbytes", "load_in_8bit": False, "load_in_4bit": True},
        "pytorch_model.bin",
    ),
    "bitsandbytes, 4 bit, in words": (
        lambda weight: bnb_4(weight, storage=torch.bfloat16),
        {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_quant_storage": "bfloat16",
        },
        "model.safetensors",
    ),
}


def copied(checkpoint: Path, tower: Path, home: Path, name: str) -> Path:
    """A copy without weights, its tower beside it."""
    if not (home / tower.name).is_dir():
        shutil.copytree(tower, home / tower.name)
    return Path(shutil.copytree(checkpoint, home / name, ignore=lambda *_: ["model.safetensors"]))


def twins(method: str, checkpoint: Path, tower: Path, home: Path) -> tuple[Path, Path]:
    """A checkpoint that is stored quantized, and one with the dense weights that it stands for."""
    store, block, file = FORMATS[method]
    linear, others = layers_of(checkpoint)
    layers = {name: store(weight) for name, weight in linear.items()}
    packed = copied(checkpoint, tower, home, "llava-packed")
    write_quantized(packed, layers, block, file=file, others=others)
    dense = copied(checkpoint, tower, home, "llava-dense")
    weights = {f"{name}.weight": stored.dense for name, stored in layers.items()}
    save_file(dict(others) | weights, dense / "model.safetensors", metadata={"format": "pt"})
    return packed, dense
