"""Weights that another program has stored quantized, unpacked to the dense ones they stand for.

One function a method, in plain torch on the device of the tensors; `quantized_weights` knows which
tensors and options a method has. Shapes: I inputs and O outputs of a layer, G groups of inputs that
share a scale, W words. Values and scales are multiplied in float32, which is exact or rounded once.
Inputs are never quantized, whatever a method does to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, gcd, prod
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from llava.errors import CheckpointError
from llava.model.quantized_weights import PARTS, STATE, Packing, find_packing, refuse_quantized
from llava.model.rules import NUMBER, Rule, list_of, one_of, whole
from llava.model.weights import read_tensors, require_numbers

_STATE_RULES: Mapping[str, Rule] = {
    "quant_type": one_of("nf4", "fp4"),
    "blocksize": whole(1, 4096),
    "dtype": one_of("float16", "bfloat16", "float32"),
    "shape": list_of(whole(), 2, 2),
}
_NESTED_RULES: Mapping[str, Rule] = {"nested_blocksize": whole(1, 4096), "nested_offset": NUMBER}


def read_unpacked(
    files: Sequence[Path], folder: Path, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], str, int]:
    """Returns the tensors of weight files, dense ones in the place of those stored quantized.

    The config.json in `folder` says how to read the files. Unpacked weights are of the given dtype;
    what is stored dense stays as it is.

    Returns:
        Tensors by name; by what they were stored quantized, empty if they were not; how many.

    Raises:
        CheckpointError: a file cannot be read, weights are stored in a way that cannot, or a part
            of them is missing or contradicts others or config.json.
    """
    tensors, number = read_tensors(files, packed=True), 0
    packing = find_packing(tensors, folder, files)
    for layer in () if packing is None else _layers(tensors, packing):
        if f"{layer.name}.weight" in tensors:
            raise layer.refusal("weight", "be left out beside its quantized form", "is there")
        weight = _UNPACK[layer.packing.method](layer)
        tensors[f"{layer.name}.weight"] = weight.to(dtype).contiguous()
        number += 1
    refuse_quantized(tensors, folder)
    require_numbers(tensors, folder)
    return tensors, "" if packing is None else packing.method, number


def drop_idle_biases(tensors: dict[str, torch.Tensor], expected: Container[str]) -> None:
    """Removes biases of zeros, which GPTQ's programs give to layers that have none, in place."""
    for name in [name for name in tensors if name.endswith(".bias") and name not in expected]:
        if f"{name.removesuffix('bias')}weight" in expected and not tensors[name].any():
            del tensors[name]


@dataclass(frozen=True, slots=True)
class _Layer:
    """The stored parts of one layer, by what follows its name."""

    name: str
    parts: Mapping[str, torch.Tensor]
    packing: Packing

    def refusal(self, part: str, must: str, found: str) -> CheckpointError:
        packing = self.packing
        return CheckpointError(
            f"{self.name}.{part} in {packing.folder} must {must}, but {found}. It is stored by "
            f"{packing.method}, for which {packing.source} says {packing.options!r:.400}: the two "
            "do not belong together, or a file is damaged. Download both again."
        )

    def option(self, name: str) -> Any:
        return self.packing.options.get(name)

    def get(self, part: str) -> torch.Tensor:
        if part not in self.parts:
            raise self.refusal(part, "be there", "is missing")
        return self.parts[part]

    def matrix(self, part: str, dtype: torch.dtype) -> torch.Tensor:
        """A part that must be a matrix of a dtype, whatever its shape."""
        shape = tuple(self.get(part).shape)
        if len(shape) != 2:
            raise self.refusal(part, "be a matrix", f"has shape {list(shape)}")
        return self.take(part, shape, dtype)

    def take(self, part: str, shape: tuple[int, ...], *dtypes: torch.dtype) -> torch.Tensor:
        """A part, which must have this shape and one of these dtypes."""
        tensor = self.get(part)
        if tuple(tensor.shape) != shape or tensor.dtype not in dtypes:
            must = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            found = f"is {str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"
            raise self.refusal(part, f"be {must} of shape {list(shape)}", found)
        return tensor

    def floats(self, part: str, shape: tuple[int, ...]) -> torch.Tensor:
        """A part of scales or the like, finite, as float32."""
        tensor = self.take(part, shape, torch.float16, torch.bfloat16, torch.float32)
        if not tensor.isfinite().all():
            raise self.refusal(part, "be finite", "holds NaN or infinite values")
        return tensor.float()

    def num_groups(self, part: str, num_inputs: int, size: int) -> int:
        """Into how many groups of a size the inputs fall, without a rest."""
        if num_inputs % size:
            raise self.refusal(part, f"have groups of {size} inputs", f"has {num_inputs} inputs")
        return num_inputs // size

    def groups(self, part: str, num_inputs: int, size: int, *, free: bool) -> torch.Tensor:
        """(I,) int64: the group of each input; those of neighbours, unless `free`."""
        neighbours = torch.arange(num_inputs) // size
        if not free and part not in self.parts:
            return neighbours
        found = self.take(part, (num_inputs,), torch.int32, torch.int64).long().cpu()
        least, most, last = int(found.min()), int(found.max()), int(neighbours[-1])
        if least < 0 or most > last:
            raise self.refusal(part, f"name groups from 0 to {last}", f"names {least} to {most}")
        if not free and not torch.equal(found, neighbours):
            raise self.refusal(part, "name groups of neighbours", "does not")
        return found


def _layers(tensors: dict[str, torch.Tensor], packing: Packing) -> Iterator[_Layer]:
    """The quantized layers, whose parts are taken out of the tensors."""
    needed, others = PARTS[packing.method]
    ends = [f".{part}" for part in (*needed, *others) if part != "weight"]
    for name in sorted({n.removesuffix(end) for end in ends for n in tensors if n.endswith(end)}):
        parts = {part: tensors.pop(f"{name}.{part}", None) for part in (*needed, *others)}
        layer = _Layer(name, {k: v for k, v in parts.items() if v is not None}, packing)
        for part in needed:
            layer.get(part)
        yield layer


def _values(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """(R, W) int32 to (R, count) uint8: values that lie end to end, from the lowest bit on."""
    period = 32 // gcd(32, bits)  # so many values fill whole words
    width = period * bits // 32
    words = pad(words.contiguous(), (0, -words.shape[1] % width))
    blocks = words.unflatten(1, (-1, width))
    values = torch.empty(*blocks.shape[:2], period, dtype=torch.uint8, device=words.device)
    for i in range(period):
        word, shift = divmod(i * bits, 32)
        value = blocks[..., word] >> shift
        if shift + bits > 32:
            value &= (1 << (32 - shift)) - 1
            value |= blocks[..., word + 1] << (32 - shift)
        values[..., i] = value & ((1 << bits) - 1)
    return values.flatten(1)[:, :count]


def _signed(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """(R, W) int32 to (R, count) int16: values that were stored with half their range added."""
    return _values(words, bits, count).short() - 2 ** (bits - 1)


def _scaled(
    values: torch.Tensor, zeros: torch.Tensor | None, scales: torch.Tensor, groups: torch.Tensor
) -> torch.Tensor:
    """(O, I) float32 from values (O, I), zeros and scales (O, G), and each input's group (I,)."""
    weights, groups = values.contiguous().float(), groups.to(scales.device)
    if zeros is not None:
        weights -= zeros.contiguous().float().index_select(1, groups)
    return weights.mul_(scales.contiguous().index_select(1, groups))


def _unpack_gptq(layer: _Layer) -> torch.Tensor:
    """`qweight` (W, O) is packed along the inputs, `qzeros` (G, W) along the outputs."""
    bits, size = layer.option("bits"), layer.option("group_size")
    words = layer.matrix("qweight", torch.int32)
    num_inputs = len(words) * 32 // bits
    size = num_inputs if size == -1 else size
    shape = ceil(num_inputs / size), words.shape[1]
    values = _values(words.t(), bits, num_inputs)
    zeros, scales = _gptq_zeros(layer, shape, bits), layer.floats("scales", shape)
    groups = layer.groups("g_idx", num_inputs, size, free=layer.option("desc_act"))
    return _scaled(values, zeros.t(), scales.t(), groups)


def _gptq_zeros(layer: _Layer, shape: tuple[int, int], bits: int) -> torch.Tensor:
    """(G, O) uint8. The first format stores them less one, in which programs differ for zero."""
    part, middle, largest = "qzeros", 2 ** (bits - 1), 2**bits - 1
    words = layer.take(part, (shape[0], ceil(shape[1] * bits / 32)), torch.int32)
    formats = {layer.option("checkpoint_format"), layer.option("format")} - {None}
    if len(formats) > 1:
        raise layer.refusal(part, "be in one format", f"is in {' and '.join(sorted(formats))}")
    by_gptqmodel = "gptqmodel" in str(layer.option("meta"))
    if formats != {"gptq_v2"} and by_gptqmodel and bits != 3:
        words = words + sum(1 << i for i in range(0, 32, bits))  # it takes one from whole words
    zeros = _values(words, bits, shape[1])
    if formats != {"gptq_v2"} and (bits == 3 or not by_gptqmodel):
        if (zeros == largest).any() and not by_gptqmodel:
            must = f"be below {largest} or, in `meta`, by gptqmodel, as programs differ in a zero"
            raise layer.refusal(part, must, "is not")
        zeros = zeros + 1 & largest
    if layer.option("sym") and (zeros != middle).any():
        raise layer.refusal(part, f"stand for {middle} everywhere, as `sym` is true", "does not")
    return zeros


def _unpack_awq(layer: _Layer) -> torch.Tensor:
    """`qweight` (I, W) and `qzeros` (G, W) are packed along the outputs, in a kernel's order."""
    words, size = layer.matrix("qweight", torch.int32), layer.option("group_size")
    num_inputs, num_words = words.shape
    size = num_inputs if size == -1 else size
    num_outputs, num_groups = 8 * num_words, layer.num_groups("qweight", num_inputs, size)
    stored = layer.take("qzeros", (num_groups, num_words), torch.int32)
    values, zeros = (  # a word holds the outputs 0 2 4 6 1 3 5 7
        _values(packed, 4, num_outputs).unflatten(1, (-1, 2, 4)).transpose(2, 3).flatten(1)
        for packed in (words, stored)
    )
    scales = layer.floats("scales", (num_groups, num_outputs))
    return _scaled(values.t(), zeros.t(), scales.t(), torch.arange(num_inputs) // size)


def _unpack_llm_awq(layer: _Layer) -> torch.Tensor:
    """`qweight` (O/4, I) has four outputs a word; scales and `scaled_zeros` have rows to spare."""
    words, size = layer.matrix("qweight", torch.int16), layer.option("group_size")
    num_rows, num_inputs = words.shape
    num_groups = layer.num_groups("qweight", num_inputs, size)
    layer.num_groups("qweight", num_inputs, 64)
    multiple = 8 * max(1, 128 // size)
    shape = multiple * ceil(num_groups / multiple), 4 * num_rows
    scales, zeros = layer.floats("scales", shape), layer.floats("scaled_zeros", shape)
    if not scales[:num_groups].all() or scales[num_groups:].any():
        raise layer.refusal("scales", f"have {num_groups} groups", "has another number of them")
    values = torch.stack([words >> shift & 15 for shift in (0, 4, 8, 12)], dim=-1)
    # by 64 inputs of four outputs each; of 32 inputs pairs are spread, and of 8 the odd ones last
    values = values.view(num_rows, -1, 4, 64).transpose(1, 2).reshape(4 * num_rows, -1, 4, 2, 4)
    values = values.transpose(3, 4).transpose(2, 3).reshape(4 * num_rows, num_inputs)
    groups = torch.arange(num_inputs, device=words.device) // size
    weights = _scaled(values, None, scales.t(), groups)
    return weights.add_(zeros.t().contiguous().index_select(1, groups))


def _unpack_bnb_8(layer: _Layer) -> torch.Tensor:
    """`weight` (O, I) int8 in 127ths of each output's largest magnitude, `SCB` (O,)."""
    if "weight_format" in layer.parts and layer.take("weight_format", (), torch.uint8) != 0:
        raise layer.refusal("weight_format", "be 0, by rows", "is not")
    values = layer.matrix("weight", torch.int8)
    return values * layer.floats("SCB", values.shape[:1])[:, None] / 127


def _unpack_bnb_4(layer: _Layer) -> torch.Tensor:
    """`weight` (W, 1), bytes as any dtype: two places in a code each; a scale for each block."""
    state = _bnb_state(layer)
    shape, size = state["shape"], state["blocksize"]
    count, num_blocks = prod(shape), ceil(prod(shape) / size)
    code = layer.floats("weight.quant_map", (16,))
    if code[0] != (-1 if state["quant_type"] == "nf4" else 0):
        raise layer.refusal("weight.quant_map", f"be that of {state['quant_type']}", "is not")
    if "weight.nested_absmax" in layer.parts:
        nested = state["nested_blocksize"]
        levels = layer.take("weight.absmax", (num_blocks,), torch.uint8).int()
        most = layer.floats("weight.nested_absmax", (ceil(num_blocks / nested),))
        scales = layer.floats("weight.nested_quant_map", (256,))[levels]
        scales = scales * most.repeat_interleave(nested)[:num_blocks] + state["nested_offset"]
    else:
        scales = layer.floats("weight.absmax", (num_blocks,))
    storage = getattr(torch, layer.option("bnb_4bit_quant_storage") or "uint8")
    words = layer.take("weight", (ceil(count / 2 / storage.itemsize), 1), storage)
    packed = words.view(torch.uint8).flatten()
    values = code[torch.stack((packed >> 4, packed & 15), dim=1).flatten()[:count].int()]
    weights = values * scales.repeat_interleave(size)[:count]
    return weights.view(shape).to(getattr(torch, state["dtype"]))  # bitsandbytes rounds to it


def _bnb_state(layer: _Layer) -> dict[str, Any]:
    """What bitsandbytes writes beside a weight, as the bytes of a JSON object."""
    part = next((part for part in layer.parts if part.startswith(STATE)), f"{STATE}nf4")
    written = layer.take(part, tuple(layer.get(part).shape), torch.uint8)
    try:
        state = json.loads(bytes(written.flatten().tolist()))
    except ValueError as error:
        raise layer.refusal(part, "be JSON", "is not") from error
    nested = _NESTED_RULES if "weight.nested_absmax" in layer.parts else {}
    for name, rule in (*_STATE_RULES.items(), *nested.items()):
        if not isinstance(state, dict) or not rule.holds(state.get(name)):
            raise layer.refusal(part, f"have {rule.words} as `{name}`", f"is {state!r:.200}")
    kind = layer.option("bnb_4bit_quant_type") or state["quant_type"]
    if not kind == state["quant_type"] == part.removeprefix(STATE):
        raise layer.refusal(part, f"have {kind} as `quant_type`", f"is {state!r:.200}")
    return state


def _unpack_compressed(layer: _Layer) -> torch.Tensor:
    """`weight_packed` (O, W) is packed along the inputs; `weight` (O, I) is not packed."""
    bits = layer.option("num_bits")
    if layer.packing.method == "pack-quantized":
        stated = layer.take("weight_shape", (2,), torch.int32, torch.int64)
        num_outputs, num_inputs = stated.tolist()
        shape = num_outputs, ceil(num_inputs * bits / 32)
        values = _signed(layer.take("weight_packed", shape, torch.int32), bits, num_inputs)
    else:
        kind = torch.int8 if layer.option("type") == "int" else torch.float8_e4m3fn
        values = layer.matrix("weight", kind)
        num_outputs, num_inputs = values.shape
    size = layer.option("group_size") if layer.option("strategy") == "group" else num_inputs
    shape = num_outputs, layer.num_groups("weight_scale", num_inputs, size)
    if layer.option("strategy") == "tensor":
        scales = layer.floats("weight_scale", (1,)).expand(num_outputs, 1)
    else:
        scales = layer.floats("weight_scale", shape)
    zeros = None if layer.option("symmetric") else _compressed_zeros(layer, shape, bits)
    if zeros is None and "weight_zero_point" in layer.parts:
        raise layer.refusal("weight_zero_point", "be left out, as `symmetric` is true", "is not")
    free = layer.option("actorder") in ("group", "dynamic", True)
    return _scaled(values, zeros, scales, layer.groups("weight_g_idx", num_inputs, size, free=free))


def _compressed_zeros(layer: _Layer, shape: tuple[int, int], bits: int) -> torch.Tensor:
    """(O, G) of integers, packed along the outputs; older versions do not pack them."""
    part, (num_outputs, num_groups) = "weight_zero_point", shape
    if layer.option("strategy") == "tensor":
        return layer.take(part, (1,), torch.int8).expand(shape)
    if layer.packing.method == "int-quantized" or layer.get(part).dtype == torch.int8:
        return layer.take(part, shape, torch.int8)
    words = layer.take(part, (ceil(num_outputs * bits / 32), num_groups), torch.int32)
    return _signed(words.t(), bits, num_outputs).t()


_UNPACK: Mapping[str, Callable[[_Layer], torch.Tensor]] = {
    "bitsandbytes, 8 bit": _unpack_bnb_8,
    "bitsandbytes, 4 bit": _unpack_bnb_4,
    "llm-awq": _unpack_llm_awq,
    "AWQ": _unpack_awq,
    "GPTQ": _unpack_gptq,
    **dict.fromkeys(("pack-quantized", "int-quantized", "float-quantized"), _unpack_compressed),
}
