"""Weights that another program has stored quantized, known by their tensors' names.

A `quantization_config` alone says nothing: trainings on a quantized base (QLoRA) leave it beside
dense weights, which load as if it were not there. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.locate import read_strings

_MARKS: Mapping[str, tuple[str, ...]] = {
    "AWQ or GPTQ": (".qweight", ".qzeros", ".g_idx"),
    "bitsandbytes, 8 bit": (".SCB", ".weight_format"),
    "bitsandbytes, 4 bit": (".absmax", ".quant_map", ".nested_absmax"),
    "compressed-tensors": (".weight_packed", ".weight_zero_point", ".bitmask"),
    "8 bit with scales": (".weight_scale", ".weight_scale_inv", ".weight_scales"),
    "HQQ": (".W_q",),
    "quanto": (".weight._data", ".weight._scale"),
    "AQLM": (".codebooks",),
}
"""Ends of the names of tensors that only quantized weights have, by who stores them so."""


def refuse_quantized(names: Iterable[str], config: Mapping[str, Any], folder: Path) -> None:
    """Checks that no tensor belongs to weights that are stored quantized.

    Args:
        names: Of the tensors.
        config: The config.json beside them, which may name the method.
        folder: Where they lie.

    Raises:
        CheckpointError: one does.
    """
    for name in names:
        for method, ends in _MARKS.items():
            if name.endswith(ends) or ".quant_state." in name:
                raise CheckpointError(_refusal(method, name, config, folder))


def _refusal(guess: str, name: str, config: Mapping[str, Any], folder: Path) -> str:
    block = config.get("quantization_config")
    method = block.get("quant_method") if isinstance(block, dict) else None
    if ".quant_state." in name:
        guess = "bitsandbytes, 4 bit"
    told = guess
    if isinstance(method, str) and method.lower() not in guess.lower():
        told = f"{method} ({guess})" if method not in ("awq", "gptq") else method
    elif method in ("awq", "gptq"):
        told = method
    source = "its `quantization_config` and tensors" if method else "tensors"
    return (
        f"The weights in {folder} are stored quantized by {told}, as {source} such as {name} "
        "say. Only dense weights can be loaded: give the checkpoint that they were made from, and "
        "have it quantized at load with `quantization=nf4` or `quantization=int8`."
    )


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
