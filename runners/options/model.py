"""The typed schema of a checkpoint under evaluation, and of how its answers are generated."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import MISSING

from llava.generation.request import GenerationConfig
from runners.options.checks import check_fields
from runners.options.kinds import Kind, device_option, name_option, of_kind, option, path_option
from runners.options.spellings import near

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
DTYPES = ("float32", "float16", "bfloat16")
QUANTIZATIONS = ("none", "int8", "nf4", "fp4")
ATTENTIONS = ("eager", "sdpa", "flash_attention_2")


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which checkpoint is evaluated.

    Attributes:
        path: A folder or a hub id.
        base: The model that an adapter or projector-only checkpoint was trained on.
        name: The model's name; null takes it from the path.
        conversation: The template that the checkpoint was trained with, where it is known.
        revision: Branch, tag or commit of a hub id.
        published: The model's name in the table of published figures, where it has any.
        attention: `eager`, `sdpa` or `flash_attention_2`; null for the model's default.
        vision_tower_dtype: Of the vision tower; null for float32, or the model's if it was tuned.
        tf32: Whether CUDA devices may multiply float32 in TF32, with no more bits than float16.
    """

    path: str = field(default=MISSING, metadata=of_kind(Kind.CHECKPOINT))
    base: str | None = path_option(None)
    name: str | None = name_option(None)
    conversation: str | None = None
    revision: str | None = name_option(None)
    published: str | None = None
    attention: str | None = option(None, choices=ATTENTIONS)
    vision_tower_dtype: str | None = option(None, choices=DTYPES)
    tf32: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "model.")


@dataclass(kw_only=True, slots=True)
class GenerationOptions:
    """How answers are generated.

    Attributes:
        temperature: 0 for greedy decoding.
        top_p: Nucleus mass in (0, 1], or null.
        num_beams: Number of beams.
        max_new_tokens: Longest answer; null takes each task's own.
    """

    temperature: float = option(0.0, allowed="number from 0")
    top_p: float | None = option(None, allowed="number in (0, 1], or null")
    num_beams: int = option(1, allowed="whole number from 1")
    max_new_tokens: int | None = option(None, least=1, remedy="Set it to null for each task's own.")

    def __post_init__(self) -> None:
        check_fields(self, "generation.")
        # The same checks as at generation time, but before anything is read.
        self.to_config(max_new_tokens=1, seed=0)

    def to_config(self, *, max_new_tokens: int, seed: int) -> GenerationConfig:
        """Returns how the answers of one task are generated, none longer than that."""
        return GenerationConfig(**{**asdict(self), "max_new_tokens": max_new_tokens}, seed=seed)


@dataclass(kw_only=True, slots=True)
class ConversationConfig:
    """The conversation template.

    Attributes:
        template: Its name; null resolves it from the checkpoint.
        style: How its parts are joined, as a file below `include` declares it; so are the others.
        system: The text in front of the turns.
        roles: The names of user and assistant, with their markup.
        separators: What ends a turn.
        stop: Tokens that end an answer beside the tokenizer's end token.
    """

    template: str | None = None
    style: str | None = None
    system: str | None = None
    roles: list[str] | None = None
    separators: list[str] | None = None
    stop: list[str] | None = None


@dataclass(kw_only=True, slots=True)
class QuantizationConfig:
    """How the language model's linear layers are held.

    Attributes:
        name: `none`, `int8`, `nf4` or `fp4`.
        double_quant: Whether the scales of 4-bit weights are quantized too.
        compute_dtype: Dtype in which 4-bit weights are multiplied; null for the model's.
    """

    name: str = option("none", choices=QUANTIZATIONS)
    double_quant: bool = True
    compute_dtype: str | None = option(None, choices=DTYPES)

    def __post_init__(self) -> None:
        check_fields(self, "quantization.")

    def to_plain(self) -> dict[str, Any] | None:
        """The values as a mapping; None for full precision."""
        return None if self.name == "none" else asdict(self)


@dataclass(kw_only=True, slots=True)
class SubjectConfig:
    """What every program that loads a checkpoint is told about it.

    Attributes:
        model: Which checkpoint.
        conversation: Which template.
        quantization: How weights are held.
        dtype: float32, float16, bfloat16, or auto for the one the checkpoint was saved in; null for
            float16 on CUDA and float32 on a CPU.
        device: `cpu`, `cuda`, `cuda:1`; null for CUDA where there is one.
        seed: Seed of sampling.
        include: Folders with models, templates and benchmarks of your own.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    conversation: ConversationConfig = field(default_factory=ConversationConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    dtype: str | None = option(None, choices=(*DTYPES, "auto"))
    device: str | None = device_option()
    seed: int = 0
    include: list[str] = field(default_factory=list, metadata=of_kind(Kind.PATHS))

    @property
    def device_dtype(self) -> str | None:
        """The dtype where none is asked for; None as long as no device is asked for either."""
        return self.device and ("float32" if self.device == "cpu" else "float16")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            number = re.fullmatch(r"(?:cuda|gpu)?[ :_-]?(\d+)", self.device.lower())
            meant = f"cuda:{number[1]}" if number else near(self.device, ["cuda"])
            asked = f"Did you mean `device={meant}`? " if meant else ""
            raise ValueError(
                f"`device` must be cpu, cuda or cuda:N, but is {self.device!r}. {asked}Leave it "
                "out for the default."
            )
