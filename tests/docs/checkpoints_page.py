"""Writes docs/which_checkpoints_open.md from what the code knows of families, towers and formats.

python -m tests.docs.checkpoints_page      # after a family, a tower or a format has been added
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from llava.model.families import FAMILIES, FOREIGN, Family
from llava.model.native import NATIVE_TYPES
from llava.model.quantized_weights import PARTS
from llava.model.tower_kinds import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "which_checkpoints_open.md"

_REFERENCE = "haotian-liu/LLaVA"
_NEXT = "LLaVA-VL/LLaVA-NeXT"
_OWN = "transformers' own classes"
_LANGUAGE_ORACLES = {
    "llama": f"{_REFERENCE}, {_NEXT} (Llama 3), {_OWN}",
    "mpt": f"nothing but its prompts ({_REFERENCE})",
    "qwen2": f"{_NEXT}, {_OWN}",
}
_TOWER_ORACLES = {
    "CLIP": f"{_REFERENCE}; with S2 its package s2wrapper",
    "SigLIP": f"{_NEXT}, {_OWN}",
    "InternViT-6B": "OpenGVLab/InternVL, folder internvl_chat_llava",
}
_NATIVE_NAMES = {
    "llava": "LLaVA 1.5, LLaVA-Interleave, xtuner",
    "llava_next": "LLaVA 1.6 and LLaVA-NeXT",
    "llava_onevision": "LLaVA-OneVision",
}
_BOTH_ENGINES = "both engines against each other"


def render() -> str:
    """Returns the page."""
    return "".join(f"{line}\n" for line in _lines())


_HEAD = """# Which checkpoints open

`model.path=` takes a folder or a hub id of any of these. A field of config.json that decides
answers is refused by name where its value is not known; no other field reaches the model. The first
LLaVA's config.json, of type `llava`, does not say which language model it is on: its base, its
classes or the checkpoint's name do, and else it is LLaMA. `python -m tests.docs.checkpoints_page`
writes this page; its lists are the code's.

"Tested against" names the code whose recorded outputs ours are compared with, on small random
checkpoints: token ids, pixels, features, logits and answers. Where there are none, it says what is
compared instead.
"""
_PACKS = """
Whatever the language model, questions go one by one where its rotary scaling is `dynamic` or
`longrope`, or where its generation config has an option such as `repetition_penalty`: see
[how the packed engine works](packed_engine.md#what-it-does-not-do).
"""
_OVER = """
Over each of them a LoRA adapter opens as LLaVA's, LLaVA-NeXT's and peft's training save it, and a
projector alone.

Where one image is tiled up to a limit (`anyres_max_N`, OneVision), several images of one question
are padded instead. In transformers' format the newline follows each of them, as in its class. In
the original format it does not, as in LLaVA-NeXT's evaluation.

## Stored quantized

Weights that are stored in few bits are unpacked while loading to the dense ones that they stand
for; `quantization=` then applies as to any other checkpoint.
[Which options of each method open](evaluate_your_checkpoint.md#what-a-checkpoint-is).
"""


def _lines() -> Iterator[str]:
    yield from _HEAD.splitlines()
    yield from ("", "## Language models", "")
    heads = ("language model", "`model_type` of a LLaVA", "tested against", "answered")
    yield from _table(heads, map(_family_row, FAMILIES.values()))
    yield from _PACKS.splitlines()
    yield from ("", "## Vision towers", "")
    rows = ((kind.name, f"`{name}`", _TOWER_ORACLES[kind.name]) for name, kind in KINDS.items())
    yield from _table(("tower", "`model_type`", "tested against"), rows)
    yield from ("", "## Formats", "")
    yield from _table(("format", "what it is", "tested against"), _formats())
    yield from _OVER.splitlines()
    yield ""
    yield from (f"- {method}" for method in PARTS)
    yield from ("", "## Other architectures", "")
    yield from ("These are refused by name, with the code that evaluates them:", "")
    yield from (f"- {title}: {code}" for _, title, code in FOREIGN)


def _family_row(family: Family) -> tuple[str, ...]:
    return (
        f"`{family.name}`",
        ", ".join(f"`{name}`" for name in family.llava_types),
        _LANGUAGE_ORACLES.get(family.name, _BOTH_ENGINES),
        "in packs" if family.is_packable else "one by one",
    )


def _formats() -> Iterator[tuple[str, str, str]]:
    yield "original", "LLaVA's and LLaVA-NeXT's own, the tower beside", f"{_REFERENCE}, {_NEXT}"
    for name in NATIVE_TYPES:
        yield f"`{name}`", f"{_NATIVE_NAMES[name]} in transformers' format", _OWN


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
