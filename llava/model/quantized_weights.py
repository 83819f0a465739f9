"""Weights that another program has stored quantized: known by their tensors' names.

Here is which tensors belong to which method, and what a checkpoint must say about them to be read
(`stored_quantized` reads them). A `quantization_config` alone says nothing: trainings on a
quantized base (QLoRA) leave it beside dense weights, which load as if it were not there. Imports no
torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.locate import read_config, read_strings
from llava.model.rules import FLAG, NULL, OFF, Rule, one_of, whole

STATE = "weight.quant_state.bitsandbytes__"
_ORDER = ("weight_zero_point", "weight_g_idx")
PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bitsandbytes, 8 bit": (("weight", "SCB"), ("weight_format",)),
    "bitsandbytes, 4 bit": (
        ("weight", "weight.absmax", "weight.quant_map"),
        (f"{STATE}nf4", f"{STATE}fp4", "weight.nested_absmax", "weight.nested_quant_map"),
    ),
    "llm-awq": (("qweight", "scales", "scaled_zeros"), ()),
    "AWQ": (("qweight", "qzeros", "scales"), ()),
    "GPTQ": (("qweight", "qzeros", "scales"), ("g_idx",)),
    "pack-quantized": (("weight_packed", "weight_scale", "weight_shape"), _ORDER),
    "int-quantized": (("weight", "weight_scale"), _ORDER),
    "float-quantized": (("weight", "weight_scale"), ()),
}
"""What a layer's tensors are called after its name, by method: those that it needs, and others.
The last three are formats of compressed-tensors."""

_MARKS: Mapping[str, tuple[tuple[str, ...], tuple[str | None, ...]]] = {
    "HQQ": ((".W_q",), ()),
    "quanto": ((".weight._data", ".weight._scale"), ()),
    "AQLM": ((".codebooks",), ()),
    "a sparse compressed-tensors": ((".bitmask",), ()),
    "8 bit with scales": ((".weight_scale_inv", ".weight_scales"), ()),
    "bitsandbytes, 8 bit": ((".SCB", ".weight_format"), ("bitsandbytes", None)),
    "bitsandbytes, 4 bit": ((".absmax", ".quant_map", f".{STATE}nf4"), ("bitsandbytes", None)),
    "llm-awq": ((".scaled_zeros",), (None,)),
    "AWQ or GPTQ": ((".qweight", ".qzeros", ".g_idx"), ("awq", "gptq")),
    "compressed-tensors": ((".weight_packed", ".weight_scale"), ("compressed-tensors",)),
}
"""Ends of the names of tensors that only quantized weights have, by who stores them so; and what
`quant_method` may be beside those that can be read (None: left out)."""

_GROUP = one_of(-1) | whole()
_NOTHING = Rule("left out or empty", lambda value: not value)
_RULES: Mapping[str, Mapping[str, Rule]] = {
    "bitsandbytes, 8 bit": {"load_in_8bit": one_of(True), "load_in_4bit": OFF},
    "bitsandbytes, 4 bit": {
        "load_in_4bit": one_of(True),
        "load_in_8bit": OFF,
        "bnb_4bit_quant_storage": one_of("uint8", "float16", "bfloat16", "float32") | NULL,
    },
    "AWQ": {
        "bits": one_of(4),
        "group_size": _GROUP,
        "zero_point": one_of(True),
        "version": one_of("gemm", "GEMM"),
    },
    "GPTQ": {
        "bits": one_of(2, 3, 4, 8),
        "group_size": _GROUP,
        **dict.fromkeys(("sym", "desc_act"), FLAG),
        **dict.fromkeys(("checkpoint_format", "format"), one_of("gptq", "gptq_v2") | NULL),
        "is_marlin_format": OFF,
        "pack_dtype": one_of("int32") | NULL,
        "dynamic": _NOTHING
        | Rule(
            "of layers kept dense alone (-:)",
            lambda layers: isinstance(layers, dict) and all(n.startswith("-:") for n in layers),
        ),
    },
    "compressed-tensors": {
        "format": one_of("pack-quantized", "int-quantized", "float-quantized"),
        "config_groups": Rule(
            "one group of layers, whose inputs have no stored scales",
            lambda groups: isinstance(groups, dict) and _is_one(list(groups.values())),
        ),
        **dict.fromkeys(("kv_cache_scheme", "transform_config"), _NOTHING),
        "sparsity_config": _NOTHING | Rule("dense", lambda value: value == {"format": "dense"}),
    },
}
_LLM_AWQ_NAME = re.compile(r"-w4-g(32|64|128|256)\b[^/]*v2\.pt$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How the weights of a checkpoint are stored quantized.

    Attributes:
        method: A key of `PARTS`.
        folder: Where the weights lie.
        source: The file that says `options`.
        options: The method's own, all understood.
    """

    method: str
    folder: Path
    source: Path
    options: Mapping[str, Any]


def find_packing(names: Iterable[str], folder: Path, files: Sequence[Path]) -> Packing | None:
    """Returns how the weights of a folder are stored; None if they are dense.

    The names of their tensors tell it, and the config.json beside them says how to read them.

    Raises:
        CheckpointError: they are quantized in a way that cannot be read, or config.json says
            something else than the tensors.
    """
    label, name = _find_mark(names)
    if not label:
        return None
    source = folder / "config.json"
    block = read_config(folder).get("quantization_config") or {}
    stated = block.get("quant_method") if isinstance(block, dict) else block
    _, methods = _MARKS[label]
    if not methods or (name.endswith(".weight_scale") and stated not in methods):
        label = "8 bit with scales" if methods else label  # others name their scales so too
        raise CheckpointError(_refusal(label, name, folder))
    if all(stated not in known for _, known in _MARKS.values()):
        raise CheckpointError(_refusal(f"{stated!r:.100}", name, folder))
    if stated not in methods:
        words = " or ".join("left out" if one is None else one for one in methods)
        raise _unreadable("quant_method", f"{words}, as {name} is stored so", stated, source)
    method = {"awq": "AWQ", "gptq": "GPTQ"}.get(str(stated), label)
    if method == "llm-awq":
        return _read_name(folder, files[0])
    if block:
        _check(block, _RULES[method], source)
    if method == "compressed-tensors":
        method, block = block["format"], _scheme(block, source)
    return Packing(method=method, folder=folder, source=source, options=block)


def refuse_quantized(names: Iterable[str], folder: Path) -> None:
    """Raises CheckpointError if a tensor belongs to weights that are stored quantized."""
    label, name = _find_mark(names)
    if label:
        raise CheckpointError(_refusal(label, name, folder))


def _find_mark(names: Iterable[str]) -> tuple[str, str]:
    """Who stores weights so, and a tensor that shows it; empty for dense weights."""
    names = list(names)
    marked = ((label, n) for label, (ends, _) in _MARKS.items() for n in names if n.endswith(ends))
    return next(marked, ("", ""))


def _refusal(method: str, name: str, folder: Path) -> str:
    return (
        f"Weights in {folder} are stored quantized by {method}, as tensors such as {name} say, and "
        "cannot be read as they lie there. Give the dense checkpoint that they were made from, and "
        "have it quantized at load with `quantization=nf4` or `quantization=int8`."
    )


def _unreadable(name: str, words: str, value: object, source: Path) -> CheckpointError:
    return CheckpointError(
        f"`quantization_config.{name}` must be {words}, but is {value!r:.100} in {source}: "
        "quantized weights cannot be read otherwise. Take the config.json that was saved with "
        "them, or give the dense checkpoint that they were made from."
    )


def _check(block: Mapping[str, Any], rules: Mapping[str, Rule], source: Path, at: str = "") -> None:
    for name, rule in rules.items():
        if not rule.holds(block.get(name)):
            raise _unreadable(f"{at}{name}", rule.words, block.get(name), source)


def _is_one(groups: Sequence[Any]) -> bool:
    """Whether the groups of compressed-tensors are one, and it scales inputs anew if at all."""
    if len(groups) != 1 or not isinstance(groups[0], dict):
        return False
    inputs = groups[0].get("input_activations") or {"dynamic": True}
    is_dynamic = isinstance(inputs, dict) and inputs.get("dynamic") is True
    return is_dynamic and isinstance(groups[0].get("weights"), dict)


def _scheme(block: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """How compressed-tensors stores all weights: `num_bits`, `strategy` and so on."""
    scheme: dict[str, Any] = next(iter(block["config_groups"].values()))["weights"]
    is_float = block["format"] == "float-quantized"
    rules = {
        "num_bits": one_of(2, 4, 8) if block["format"] == "pack-quantized" else one_of(8),
        "type": one_of("float" if is_float else "int"),
        "symmetric": one_of(True) if is_float else FLAG,
        "strategy": one_of("group", "channel", "tensor"),
        "group_size": whole() if scheme.get("strategy") == "group" else _GROUP | NULL,
    }
    _check(scheme, rules, source, "config_groups.*.weights.")
    return scheme


def _read_name(folder: Path, file: Path) -> Packing:
    """What the name of llm-awq's file says, which is written nowhere else."""
    match = _LLM_AWQ_NAME.search(file.name)
    if match is None:
        raise CheckpointError(
            f"{file} is stored quantized by llm-awq, whose name for it must say bits and group "
            "size, as in `llava-v1.5-7b-w4-g128-awq-v2.pt` (4 bit; groups of 32, 64, 128 or 256). "
            "Give it the name that it was saved with, or give the dense checkpoint."
        )
    options = {"bits": 4, "group_size": int(match[1])}
    return Packing(method="llm-awq", folder=folder, source=file, options=options)


def stored_names(files: Iterable[Path]) -> list[str]:
    """Returns the names of the tensors in weight files, read without the tensors.

    A file that cannot be read so gives none: loading it says what it is.
    """
    names: list[str] = []
    for path in files:
        if path.suffix in (".safetensors", ".bin", ".pt"):
            with suppress(CheckpointError):
                names += sorted(read_strings(path))
    return names
