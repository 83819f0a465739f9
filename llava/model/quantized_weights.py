"""Weights that another program has stored quantized: known by their tensors' names.

Here is which tensors belong to which method, and what a checkpoint must say about them to be read
(`stored_quantized` reads them). A `quantization_config` alone says nothing: trainings on a
quantized base (QLoRA) leave it beside dense weights, which load as if it were not there. Imports no
torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.locate import read_config, read_strings
from llava.model.rules import FLAG, NULL, Rule, one_of, whole

BNB_8, BNB_4 = "bitsandbytes, 8 bit", "bitsandbytes, 4 bit"
GPTQ, AWQ, LLM_AWQ = "GPTQ", "AWQ", "llm-awq"
PACKED, COMPRESSED = "compressed-tensors, pack-quantized", "compressed-tensors"

STATE = "weight.quant_state.bitsandbytes__"
_ZEROS_AND_ORDER = ("weight_zero_point", "weight_g_idx")

PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    BNB_8: (("weight", "SCB"), ("weight_format",)),
    BNB_4: (
        ("weight", "weight.absmax", "weight.quant_map"),
        (f"{STATE}nf4", f"{STATE}fp4", "weight.nested_absmax", "weight.nested_quant_map"),
    ),
    GPTQ: (("qweight", "qzeros", "scales"), ("g_idx",)),
    AWQ: (("qweight", "qzeros", "scales"), ()),
    LLM_AWQ: (("qweight", "scales", "scaled_zeros"), ()),
    PACKED: (("weight_packed", "weight_scale", "weight_shape"), _ZEROS_AND_ORDER),
    COMPRESSED: (("weight", "weight_scale"), _ZEROS_AND_ORDER),
}
"""What a layer's tensors are called after its name, by method: those it needs, and others."""

_MARKS: Mapping[str, tuple[tuple[str, ...], tuple[str | None, ...]]] = {
    "HQQ": ((".W_q",), ()),
    "quanto": ((".weight._data", ".weight._scale"), ()),
    "AQLM": ((".codebooks",), ()),
    "compressed-tensors, sparse": ((".bitmask",), ()),
    "8 bit with scales": ((".weight_scale_inv", ".weight_scales"), ()),
    BNB_8: ((".SCB", ".weight_format"), ("bitsandbytes", None)),
    BNB_4: ((".absmax", ".quant_map", ".nested_absmax"), ("bitsandbytes", None)),
    LLM_AWQ: ((".scaled_zeros",), (None,)),
    "AWQ or GPTQ": ((".qweight", ".qzeros", ".g_idx"), ("awq", "gptq")),
    PACKED: ((".weight_packed", ".weight_zero_point"), ("compressed-tensors",)),
    COMPRESSED: ((".weight_scale",), ("compressed-tensors",)),
}
"""Ends of the names of tensors that only quantized weights have, by who stores them so, and what
`quant_method` is beside those that can be read (None: it is not there)."""

_GROUP = one_of(-1) | whole()
_LINEAR: Mapping[str, Rule] = {"bits": one_of(4), "group_size": _GROUP}
_OFF = NULL | one_of(False)
_RULES: Mapping[str, Mapping[str, Rule]] = {
    AWQ: {**_LINEAR, "version": one_of("gemm", "GEMM"), "zero_point": one_of(True)},
    GPTQ: {
        **_LINEAR,
        "bits": one_of(2, 3, 4, 8),
        "sym": FLAG,
        "desc_act": FLAG,
        "checkpoint_format": one_of("gptq", "gptq_v2") | NULL,
        "is_marlin_format": _OFF,
        "pack_dtype": one_of("int32") | NULL,
    },
    BNB_8: {"load_in_8bit": one_of(True), "load_in_4bit": _OFF},
    BNB_4: {"load_in_4bit": one_of(True), "load_in_8bit": _OFF},
}
_NEEDED = {"bits", "group_size", "version", "sym", "desc_act"}
_COMPRESSED_RULES: Mapping[str, Rule] = {
    "format": one_of("pack-quantized", "int-quantized", "float-quantized"),
    "quantization_status": one_of("compressed"),
    "kv_cache_scheme": NULL,
    "sparsity_config": one_of({}) | NULL,
    "transform_config": one_of({}) | NULL,
}
_NUM_BITS = {"pack-quantized": (4, 8), "int-quantized": (8,), "float-quantized": (8,)}
_LLM_AWQ_NAME = re.compile(r"-w(?P<bits>\d+)-g(?P<group_size>\d+)[^/]*v2\.pt$")


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
    options: Mapping[str, Any] = field(default_factory=dict)


def find_packing(names: Iterable[str], folder: Path, files: Sequence[Path]) -> Packing | None:
    """Returns how weights are stored; None if they are dense.

    Args:
        names: Of the tensors, as stored.
        folder: Where they lie, with the config.json that says how to read them.
        files: The weight files.

    Raises:
        CheckpointError: they are quantized in a way that cannot be read, or config.json says
            something else than the tensors.
    """
    found = _marked(names)
    if found is None:
        return None
    label, name = found
    source, config = folder / "config.json", read_config(folder)
    block = config.get("quantization_config")
    stated = block.get("quant_method") if isinstance(block, dict) else block
    _, methods = _MARKS[label]
    if not methods or (label == COMPRESSED and stated not in methods):
        raise CheckpointError(_refusal("8 bit with scales" if methods else label, name, folder))
    if stated not in methods:
        words = f"{' or '.join(map(str, methods))}, as tensors such as {name} are stored so"
        raise _unreadable("quant_method", words, stated, source)
    options: dict[str, Any] = block if isinstance(block, dict) else {}
    if label == LLM_AWQ:
        return _read_name(folder, files)
    if stated == "compressed-tensors":
        options = _compressed_options(options, source)
        label = PACKED if options["format"] == "pack-quantized" else COMPRESSED
    else:
        label = {"awq": AWQ, "gptq": GPTQ}.get(str(stated), label)
        _check(options, _RULES[label] if stated else {}, source)
    return Packing(method=label, folder=folder, source=source, options=options)


def refuse_quantized(names: Iterable[str], folder: Path) -> None:
    """Checks that no tensor belongs to weights that are stored quantized.

    Raises:
        CheckpointError: one does.
    """
    if found := _marked(names):
        raise CheckpointError(_refusal(*found, folder))


def _marked(names: Iterable[str]) -> tuple[str, str] | None:
    """Who stores weights so, and a tensor that shows it; None for dense weights."""
    names = list(names)
    for label, (ends, _) in _MARKS.items():
        for name in names:
            if name.endswith(ends) or (label == BNB_4 and ".quant_state." in name):
                return label, name
    return None


def _refusal(method: str, name: str, folder: Path) -> str:
    return (
        f"Weights in {folder} are stored quantized by {method}, as tensors such as {name} say, and "
        "cannot be read exactly there. Give the dense checkpoint that they were made from, and "
        "have it quantized at load with `quantization=nf4` or `quantization=int8`."
    )


def _unreadable(name: str, words: str, value: object, source: Path) -> CheckpointError:
    return CheckpointError(
        f"`quantization_config.{name}` must be {words}, but is {value!r:.100} in {source}: quantized "
        "weights cannot be read otherwise. Take the config.json that was saved with them, or give "
        "the dense checkpoint that they were made from."
    )


def _check(block: Mapping[str, Any], rules: Mapping[str, Rule], source: Path, at: str = "") -> None:
    for name, rule in rules.items():
        if (name in block or name in _NEEDED) and not rule.holds(block.get(name)):
            raise _unreadable(f"{at}{name}", rule.words, block.get(name), source)


def _compressed_options(block: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The one scheme of a compressed-tensors block, as `num_bits`, `strategy` and so on."""
    _check(block, _COMPRESSED_RULES, source)
    groups = block.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, dict) else []
    schemes = [group.get("weights") for group in groups if isinstance(group, dict)]
    if not schemes or len(schemes) < len(groups) or any(one != schemes[0] for one in schemes):
        raise _unreadable("config_groups", "groups that store all weights alike", groups, source)
    if not isinstance(schemes[0], dict):
        raise _unreadable("config_groups.*.weights", "an object", schemes[0], source)
    for group in groups:
        inputs = group.get("input_activations")
        if inputs is not None and not (isinstance(inputs, dict) and inputs.get("dynamic") is True):
            words = "null or dynamic, as stored scales of inputs would be left out"
            raise _unreadable("config_groups.*.input_activations", words, inputs, source)
    options = {**schemes[0], "format": block.get("format")}
    rules = {
        "format": _COMPRESSED_RULES["format"],
        "num_bits": one_of(*_NUM_BITS.get(str(options["format"]), ())),
        "type": one_of("float" if options["format"] == "float-quantized" else "int"),
        "symmetric": one_of(True) if options["format"] == "float-quantized" else FLAG,
        "strategy": one_of("group", "channel", "tensor"),
        "group_size": whole() if options.get("strategy") == "group" else one_of(-1) | NULL,
    }
    for name, rule in rules.items():
        if not rule.holds(options.get(name)):
            at = "" if name == "format" else "config_groups.*.weights."
            raise _unreadable(f"{at}{name}", rule.words, options.get(name), source)
    return options


def _read_name(folder: Path, files: Sequence[Path]) -> Packing:
    """What the name of llm-awq's file says, which is written nowhere else."""
    match = _LLM_AWQ_NAME.search(files[0].name)
    if match is None or match["bits"] != "4" or int(match["group_size"]) not in (32, 64, 128, 256):
        raise CheckpointError(
            f"{files[0]} is stored quantized by llm-awq, so that its name must say bits and group "
            "size, as in `llava-v1.5-7b-w4-g128-awq-v2.pt` (4 bit; groups of 32, 64, 128 or 256). "
            "Give it the name that it was saved with, or give the dense checkpoint."
        )
    options = {"bits": 4, "group_size": int(match["group_size"])}
    return Packing(method=LLM_AWQ, folder=folder, source=files[0], options=options)


def stored_names(files: Iterable[Path]) -> list[str]:
    """Returns the names of the tensors in weight files, read without the tensors.

    A file that cannot be read so gives none: loading it says what it is.
    """
    return [name for path in files for name in _names_in(path)]


def _names_in(path: Path) -> list[str]:
    if path.suffix not in (".safetensors", ".bin", ".pt"):
        return []
    try:
        return sorted(read_strings(path))
    except CheckpointError:
        return []
