"""Weights that another program has stored quantized, unpacked to the dense ones that they stand for.

One function a method, in plain torch on the device of the tensors; `quantized_weights` knows which
tensors and options a method has. Shapes: I inputs and O outputs of a layer, G groups of inputs that
share a scale, W words. Integers and scales are multiplied in float32, which is exact or rounded
once; activations are never quantized, whatever a method does to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, gcd, prod
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from llava.errors import CheckpointError
from llava.model.quantized_weights import (
    AWQ,
    BNB_4,
    BNB_8,
    COMPRESSED,
    GPTQ,
    LLM_AWQ,
    PACKED,
    PARTS,
    STATE,
    Packing,
    find_packing,
    refuse_quantized,
)
from llava.model.rules import NUMBER, Rule, list_of, one_of, whole
from llava.model.weights import require_numbers

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_STATE_RULES: Mapping[str, Rule] = {
    "quant_type": one_of("nf4", "fp4"),
    "blocksize": whole(1, 4096),
    "dtype": one_of("float16", "bfloat16", "float32"),
    "shape": list_of(whole(), 2, 2),
}
_NESTED_RULES = {"nested_blocksize": whole(1, 4096), "nested_offset": NUMBER}


def unpack_stored(
    tensors: dict[str, torch.Tensor], folder: Path, files: Sequence[Path], dtype: torch.dtype
) -> tuple[str, int]:
    """Replaces layers that are stored quantized by their dense weights, in place.

    Args:
        tensors: By their stored names. A layer's parts give way to `weight` (O, I); all else stays.
        folder: Where they lie, with the config.json that says how to read them.
        files: The weight files.
        dtype: Of the dense weights.

    Returns:
        By what they were stored so, and how many layers; an empty text and 0 for dense weights.

    Raises:
        CheckpointError: they are stored in a way that cannot be read, or a part is missing, or
            contradicts the others or the options.
    """
    packing = find_packing(tensors, folder, files)
    layers = [] if packing is None else _layers(tensors, packing)
    for layer in layers:
        weight = _UNPACK[layer.packing.method](layer)
        tensors[f"{layer.name}.weight"] = weight.to(dtype).contiguous()
        layer.parts.clear()
    refuse_quantized(tensors, folder)
    require_numbers(tensors, folder)
    return "" if packing is None else packing.method, len(layers)


def _layers(tensors: dict[str, torch.Tensor], packing: Packing) -> list[_Layer]:
    """The quantized layers, whose parts are taken out of the tensors."""
    needed, others = PARTS[packing.method]
    ends = [f".{part}" for part in (*needed, *others) if part != "weight"]
    names = {n.removesuffix(end) for end in ends for n in tensors if n.endswith(end)}
    layers = []
    for name in sorted(names):
        found = {part: tensors.pop(f"{name}.{part}", None) for part in (*needed, *others)}
        parts = {part: tensor for part, tensor in found.items() if tensor is not None}
        layers.append(_Layer(name, parts, packing))
        for part in needed:
            layers[-1].require(part)
    return layers


@dataclass(frozen=True, slots=True)
class _Layer:
    """The stored parts of one layer, by what follows its name."""

    name: str
    parts: dict[str, torch.Tensor]
    packing: Packing

    def refusal(self, part: str, must: str, found: str) -> CheckpointError:
        return CheckpointError(
            f"{self.name}.{part} in {self.packing.folder} must {must}, but {found}: it is stored by "
            f"{self.packing.method}, and {self.packing.source} says {dict(self.packing.options)}. "
            "The two do not belong together, or a file is damaged: download both again."
        )

    def option(self, name: str) -> Any:
        return self.packing.options.get(name)

    def require(self, part: str) -> torch.Tensor:
        """A part, which must be there."""
        if part not in self.parts:
            raise self.refusal(part, "be there", "is missing")
        return self.parts[part]

    def shape(self, part: str) -> tuple[int, int]:
        """Of a part that must be a matrix."""
        shape = self.require(part).shape
        if len(shape) != 2:
            raise self.refusal(part, "be a matrix", f"has shape {list(shape)}")
        return shape[0], shape[1]

    def take(self, part: str, shape: tuple[int, ...], *dtypes: torch.dtype) -> torch.Tensor:
        """A part, which must have this shape and one of these dtypes."""
        tensor = self.require(part)
        if tuple(tensor.shape) != shape or tensor.dtype not in dtypes:
            must = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            found = f"is {str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"
            raise self.refusal(part, f"be {must} of shape {list(shape)}", found)
        return tensor

    def floats(self, part: str, shape: tuple[int, ...]) -> torch.Tensor:
        """A part of scales or the like, finite, as float32."""
        tensor = self.take(part, shape, *_FLOATS)
        if not tensor.isfinite().all():
            raise self.refusal(part, "be finite", "holds NaN or infinite values")
        return tensor.float()

    def num_groups(self, part: str, num_inputs: int, size: int) -> int:
        """Into how many groups of a size the inputs of a layer fall, without a rest."""
        if num_inputs % size:
            raise self.refusal(part, f"have groups of {size} inputs", f"has {num_inputs} inputs")
        return num_inputs // size

    def groups(self, part: str, num_inputs: int, size: int, *, free: bool) -> torch.Tensor:
        """(I,) int64: the group of each input, which need not be those of neighbours if `free`."""
        neighbours = torch.arange(num_inputs) // size
        if not free and part not in self.parts:
            return neighbours
        found, last = (
            self.take(part, (num_inputs,), torch.int32, torch.int64).long(),
            neighbours[-1],
        )
        if found.min() < 0 or found.max() > last:
            words = f"names {found.min()} to {found.max()}"
            raise self.refusal(part, f"name groups from 0 to {last}", words)
        if not free and not torch.equal(found.cpu(), neighbours):
            raise self.refusal(part, "be in order", "is not")
        return found


def _values(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """(R, W) int32 to (R, count) uint8: values that lie end to end, from the lowest bit on."""
    period = 32 // gcd(32, bits)  # so many values fill whole words
    width = period * bits // 32
    blocks = pad(words, (0, -words.shape[1] % width)).unflatten(1, (-1, width))
    values = torch.empty(*blocks.shape[:2], period, dtype=torch.uint8, device=words.device)
    for i in range(period):
        word, shift = divmod(i * bits, 32)
        value = blocks[..., word] >> shift
        if shift + bits > 32:
            value &= (1 << (32 - shift)) - 1
            value |= blocks[..., word + 1] << (32 - shift)
        values[..., i] = value & ((1 << bits) - 1)
    return values.flatten(1)[:, :count]


def _num_words(count: int, bits: int) -> int:
    return ceil(count * bits / 32)


def _scaled(
    values: torch.Tensor, zeros: torch.Tensor | None, scales: torch.Tensor, groups: torch.Tensor
) -> torch.Tensor:
    """(O, I) float32 from values (O, I), zeros and scales (O, G), and each input's group (I,)."""
    weights = values.float()
    if zeros is not None:
        weights -= zeros.float()[:, groups]
    return weights.mul_(scales[:, groups])


def _unpack_gptq(layer: _Layer) -> torch.Tensor:
    """`qweight` (W, O) is packed along the inputs, `qzeros` (G, W) along the outputs."""
    bits, size = layer.option("bits"), layer.option("group_size")
    num_words, num_outputs = layer.shape("qweight")
    num_inputs = num_words * 32 // bits
    size = num_inputs if size == -1 else size
    num_groups = ceil(num_inputs / size)
    groups = layer.groups("g_idx", num_inputs, size, free=layer.option("desc_act"))
    words = layer.take("qweight", (num_words, num_outputs), torch.int32)
    zeros = _gptq_zeros(layer, (num_groups, num_outputs), bits)
    scales = layer.floats("scales", (num_groups, num_outputs))
    return _scaled(_values(words.t(), bits, num_inputs), zeros.t(), scales.t(), groups)


def _gptq_zeros(layer: _Layer, shape: tuple[int, int], bits: int) -> torch.Tensor:
    """(G, O) uint8. The first format stores them less one; all its writers agree but for a zero."""
    middle, largest = 2 ** (bits - 1), 2**bits - 1
    stored = layer.take("qzeros", (shape[0], _num_words(shape[1], bits)), torch.int32)
    if "gptq_v2" in (layer.option("checkpoint_format"), layer.option("format")):
        zeros = _values(stored, bits, shape[1])
    elif "gptqmodel" in str(layer.option("meta")) and bits != 3:  # which takes one from the words
        zeros = _values(stored + sum(1 << i for i in range(0, 32, bits)), bits, shape[1])
    else:
        zeros = _values(stored, bits, shape[1])
        if "gptqmodel" not in str(layer.option("meta")) and (zeros == largest).any():
            words = f"be below {largest}, as zeros less one"
            raise layer.refusal("qzeros", words, "is not, which programs read in different ways")
        zeros = zeros + 1 & largest
    if layer.option("sym") and (zeros != middle).any():
        raise layer.refusal("qzeros", f"be {middle} everywhere, as `sym` is true", "is not")
    return zeros


def _unpack_awq(layer: _Layer) -> torch.Tensor:
    """`qweight` (I, W) and `qzeros` (G, W) are packed along the outputs, in the order of a kernel."""
    num_inputs, num_words = layer.shape("qweight")
    num_outputs, size = 8 * num_words, layer.option("group_size")
    size = num_inputs if size == -1 else size
    num_groups = layer.num_groups("qweight", num_inputs, size)
    words = layer.take("qweight", (num_inputs, num_words), torch.int32)
    stored = layer.take("qzeros", (num_groups, num_words), torch.int32)
    values, zeros = (
        _values(packed, 4, num_outputs).unflatten(1, (-1, 2, 4)).transpose(2, 3).flatten(1)
        for packed in (words, stored)  # a word holds the outputs 0 2 4 6 1 3 5 7
    )
    scales = layer.floats("scales", (num_groups, num_outputs))
    groups = torch.arange(num_inputs) // size
    return _scaled(values.t(), zeros.t(), scales.t(), groups)


def _unpack_llm_awq(layer: _Layer) -> torch.Tensor:
    """`qweight` (O/4, I) interleaves four outputs; scales and `scaled_zeros` are padded (G', O)."""
    (num_rows, num_inputs), size = layer.shape("qweight"), layer.option("group_size")
    num_groups = layer.num_groups("qweight", num_inputs, size)
    multiple = max(1, 128 // size)
    shape = (8 * multiple * ceil((num_inputs // size) / 8 / multiple), 4 * num_rows)
    words = layer.take("qweight", (num_rows, num_inputs), torch.int16).int()
    layer.num_groups("qweight", num_inputs, 64)
    scales, zeros = layer.floats("scales", shape), layer.floats("scaled_zeros", shape)
    if not scales[:num_groups].all() or scales[num_groups:].any():
        raise layer.refusal("scales", f"have {num_groups} groups", "has another number of them")
    values = torch.stack([words >> shift & 15 for shift in (0, 4, 8, 12)], dim=-1)
    values = values.view(num_rows, -1, 4, 64).transpose(1, 2).reshape(4 * num_rows, -1, 4, 2, 4)
    values = values.transpose(3, 4).transpose(2, 3).reshape(4 * num_rows, num_inputs)
    groups = torch.arange(num_inputs) // size
    return _scaled(values, None, scales.t(), groups) + zeros.t()[:, groups]


def _unpack_bnb_8(layer: _Layer) -> torch.Tensor:
    """`weight` (O, I) int8 in 127ths of each output's largest magnitude, `SCB` (O,)."""
    if "weight_format" in layer.parts and layer.take("weight_format", (), torch.uint8) != 0:
        raise layer.refusal("weight_format", "be 0, rows", "is another layout")
    values = layer.take("weight", layer.shape("weight"), torch.int8)
    return values * layer.floats("SCB", values.shape[:1])[:, None] / 127


def _unpack_bnb_4(layer: _Layer) -> torch.Tensor:
    """`weight` (O * I / 2, 1): two places of a code a byte, with a scale a block of them."""
    state = _bnb_state(layer)
    shape, size = state["shape"], state["blocksize"]
    num_values = prod(shape)
    num_blocks = ceil(num_values / size)
    code = layer.floats("weight.quant_map", (16,))
    if code[0] != {"nf4": -1, "fp4": 0}[state["quant_type"]]:
        raise layer.refusal("weight.quant_map", f"be that of {state['quant_type']}", "is not")
    if "weight.nested_absmax" in layer.parts:
        nested = state["nested_blocksize"]
        levels = layer.take("weight.absmax", (num_blocks,), torch.uint8).int()
        most = layer.floats("weight.nested_absmax", (ceil(num_blocks / nested),))
        scales = layer.floats("weight.nested_quant_map", (256,))[levels]
        scales = scales * most.repeat_interleave(nested)[:num_blocks] + state["nested_offset"]
    else:
        scales = layer.floats("weight.absmax", (num_blocks,))
    packed = layer.take("weight", (ceil(num_values / 2), 1), torch.uint8).flatten()
    values = code[torch.stack((packed >> 4, packed & 15), dim=1).flatten()[:num_values].int()]
    weights = values * scales.repeat_interleave(size)[:num_values]
    return weights.view(shape).to(getattr(torch, state["dtype"]))  # bitsandbytes rounds to it


def _bnb_state(layer: _Layer) -> dict[str, Any]:
    """What bitsandbytes writes beside a weight, as bytes of a JSON object."""
    part = next((part for part in layer.parts if part.startswith(STATE)), f"{STATE}nf4")
    written = layer.take(part, tuple(layer.require(part).shape), torch.uint8)
    try:
        state = json.loads(bytes(written.tolist()))
    except ValueError as error:
        raise layer.refusal(part, "be JSON", "is not") from error
    rules = _STATE_RULES | (_NESTED_RULES if "weight.nested_absmax" in layer.parts else {})
    for name, rule in rules.items():
        if not isinstance(state, dict) or not rule.holds(state.get(name)):
            raise layer.refusal(part, f"say {rule.words} as `{name}`", f"says {state!r:.200}")
    stated = layer.option("bnb_4bit_quant_type")
    if {state["quant_type"], stated or state["quant_type"]} != {part.removeprefix(STATE)}:
        raise layer.refusal(part, f"say {stated}, as its name", f"says {state['quant_type']}")
    return state


def _unpack_compressed(layer: _Layer) -> torch.Tensor:
    """`weight_packed` (O, W) along the inputs, or `weight` (O, I); zeros packed along the outputs."""
    bits, strategy = layer.option("num_bits"), layer.option("strategy")
    if layer.packing.method == PACKED:
        stated = layer.take("weight_shape", (2,), torch.int32, torch.int64).tolist()
        num_outputs, num_inputs = stated
        words = layer.take(
            "weight_packed", (num_outputs, _num_words(num_inputs, bits)), torch.int32
        )
        values = _signed(words, bits, num_inputs)
    else:
        num_outputs, num_inputs = layer.shape("weight")
        kind = torch.int8 if layer.option("type") == "int" else torch.float8_e4m3fn
        values = layer.take("weight", (num_outputs, num_inputs), kind)
    size = layer.option("group_size") if strategy == "group" else num_inputs
    num_groups = layer.num_groups("weight_scale", num_inputs, size)
    if strategy == "tensor":
        scales = layer.floats("weight_scale", (1,)).expand(num_outputs, 1)
    else:
        scales = layer.floats("weight_scale", (num_outputs, num_groups))
    zeros = None
    if not layer.option("symmetric"):
        zeros = _compressed_zeros(layer, num_outputs, num_groups)
    elif "weight_zero_point" in layer.parts:
        raise layer.refusal("weight_zero_point", "be left out, as `symmetric` is true", "is there")
    free = layer.option("actorder") in {"group", "dynamic", True}
    groups = layer.groups("weight_g_idx", num_inputs, size, free=free)
    return _scaled(values, zeros, scales, groups)


def _compressed_zeros(layer: _Layer, num_outputs: int, num_groups: int) -> torch.Tensor:
    """(O, G), which older versions store as they are."""
    part, bits = "weight_zero_point", layer.option("num_bits")
    found = layer.parts.get(part)
    if layer.packing.method == COMPRESSED or (found is not None and found.dtype == torch.int8):
        return layer.take(part, (num_outputs, num_groups), torch.int8)
    words = layer.take(part, (_num_words(num_outputs, bits), num_groups), torch.int32)
    return _signed(words.t(), bits, num_outputs).t()


def _signed(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """(R, W) int32 to (R, count) int16: values stored with half their range added."""
    return _values(words, bits, count).short() - 2 ** (bits - 1)


_UNPACK: Mapping[str, Callable[[_Layer], torch.Tensor]] = {
    BNB_8: _unpack_bnb_8,
    BNB_4: _unpack_bnb_4,
    GPTQ: _unpack_gptq,
    AWQ: _unpack_awq,
    LLM_AWQ: _unpack_llm_awq,
    PACKED: _unpack_compressed,
    COMPRESSED: _unpack_compressed,
}
