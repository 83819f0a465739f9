"""How long a device takes for questions: the planned passes, each at the limit that binds it.

A pass through a model takes as long as its arithmetic, the reading of weights and cache, or the
start of its kernels, whichever is longest. The passes are those of the packed engine's own plan;
only what answers and replays will be is assumed. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llava.generation.calibration import Calibration
from llava.generation.plan import Pack, plan_packs, split_passes
from llava.generation.request import Request
from llava.model.tower_kinds import Tower
from runners.workers.briefing import brief_each

STAGES = ("tower", "prefix", "suffix", "decode", "replays", "parent")
"""Where time goes; all but the parent's is the device's."""

GPU_PACK_TOKENS = 65_536
CPU_PACK_TOKENS = 8_192
CPU_PASS_TOKENS = 1_200
PACK_ROWS = 64
"""What the packed engine plans with where memory does not bind."""

TOWER_BATCH = 32
"""Images that go through the tower together."""

KERNELS_A_LAYER = 41
TOWER_KERNELS_A_LAYER = 14
"""Kernels that PyTorch starts for a layer of LLaMA, and of a CLIP tower: as many as operations."""

REPLAYED_SHARES = {"bfloat16": 0.003, "float16": 0.001, "float32": 0.0}
"""Answers computed again as nearly tied, as the demo has them in results/bench/near-ties.json."""

REPLAYED_LENGTH = 4
"""Tokens of such an answer; a longer one has as many more chances to be nearly tied."""

PARENT_S_PER_QUESTION = 0.00025
"""Processor time of the parent process: reading, rendering, tokenizing, storing, scoring; see
results/bench/parent.json."""

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a device can do, dense and without sparsity, as its maker publishes it.

    Attributes:
        half_flops: Operations a second of matrix products in bfloat16 and float16.
        single_flops: Those in float32, tensor cores not used.
        bytes_per_s: What it reads of its memory in a second.
        memory_bytes: Its memory; of a CPU, the machine's is not looked at.
        useful_share: What an evaluation gets of the operations.
        read_share: What it gets of the memory's speed.
        launch_s: Seconds to start a kernel from Python; 0 where that is part of computing it.
    """

    half_flops: float
    single_flops: float
    bytes_per_s: float
    memory_bytes: float = math.inf
    useful_share: float = 0.5
    read_share: float = 0.8
    launch_s: float = 5e-6

    def flops(self, dtype: str) -> float:
        """Returns the operations a second that an evaluation gets in a dtype."""
        return self.useful_share * (self.single_flops if dtype == "float32" else self.half_flops)


# The makers' data sheets; the shares and the launch time are assumptions until `make gpu` has
# measured a device (`matmul_flops_per_s` and `mfu` in results/bench). A core of a CPU: torch's
# matrix products in `runners.bench`, where the packed engine reached four fifths of them; short
# formats are no faster there.
DEVICES: dict[str, Device] = {
    "H200": Device(half_flops=989e12, single_flops=67e12, bytes_per_s=4.8e12, memory_bytes=141e9),
    "H100": Device(half_flops=989e12, single_flops=67e12, bytes_per_s=3.35e12, memory_bytes=80e9),
    "A100": Device(half_flops=312e12, single_flops=19.5e12, bytes_per_s=2.04e12, memory_bytes=80e9),
    "L40S": Device(
        half_flops=362e12, single_flops=91.6e12, bytes_per_s=0.864e12, memory_bytes=48e9
    ),
    "RTX 4090": Device(
        half_flops=165e12, single_flops=82.6e12, bytes_per_s=1.01e12, memory_bytes=24e9
    ),
    "RTX 3090": Device(
        half_flops=71e12, single_flops=35.6e12, bytes_per_s=0.936e12, memory_bytes=24e9
    ),
}
CPU_CORE = Device(
    half_flops=92e9, single_flops=92e9, bytes_per_s=1e10, useful_share=0.8, launch_s=0.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageShape:
    """The sizes of a language model, from its configuration.

    Attributes:
        width: Of a token's state.
        inner_width: Inside the layers that treat each token by itself.
        key_width: Of a token's keys, all heads together; less than `width` with grouped queries.
        num_layer_parameters: Weights of all layers.
    """

    width: int
    inner_width: int
    key_width: int
    num_layers: int
    num_layer_parameters: int
    vocab_size: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> LanguageShape:
        """Returns the sizes that `config.json` tells, of LLaMA and its like or of MPT."""
        is_mpt = "d_model" in config
        width = int(config["d_model" if is_mpt else "hidden_size"])
        num_layers = int(config["n_layers" if is_mpt else "num_hidden_layers"])
        num_heads = int(config["n_heads" if is_mpt else "num_attention_heads"])
        key_width = width // num_heads * int(config.get("num_key_value_heads") or num_heads)
        inner_width = int(config.get("intermediate_size") or 4 * width)
        per_layer = 2 * width * width + 2 * width * key_width + 3 * width * inner_width
        if is_mpt:
            per_layer = width * width * (4 + 2 * int(config.get("expansion_ratio", 4)))
        return cls(
            width=width,
            inner_width=inner_width,
            key_width=key_width,
            num_layers=num_layers,
            num_layer_parameters=num_layers * per_layer,
            vocab_size=int(config["vocab_size"]),
        )


def count_tower_parameters(tower: Tower | None) -> int:
    """Returns the weights of the layers of a tower; 0 without one."""
    return 0 if tower is None else tower.config["num_hidden_layers"] * _layer_parameters(tower)


def _layer_parameters(tower: Tower) -> int:
    width, inner = (int(tower.config[f"{name}_size"]) for name in ("hidden", "intermediate"))
    return 4 * width * width + 2 * width * inner


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """The sizes of a vision tower, for one image with all its tiles.

    Attributes:
        num_layers: Up to the selected one.
        flops: Operations on an image, those of the projector included.
        weight_bytes: Of its layers, in float32.
        num_views: Tiles of an image that go through it.
    """

    num_layers: int
    flops: float
    weight_bytes: int
    num_views: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any], tower: Tower | None, num_views: int = 1) -> TowerShape:
        """Returns the sizes of a tower for a model with a configuration.

        A plain language model has none.
        """
        if tower is None:
            return cls(num_layers=0, flops=0.0, weight_bytes=0)
        weights = tower.num_layers * _layer_parameters(tower)
        patches = tower.num_patches_per_side**2
        rows = tower.num_passes * (patches + tower.kind.has_class_token)
        width = LanguageShape.of(config).width
        projector = tower.hidden_size * width
        if "mlp" in str(config.get("mm_projector_type")):
            projector += width * width
        return cls(
            num_layers=tower.num_layers,
            flops=2.0 * num_views * (rows * weights + patches * projector),
            weight_bytes=4 * weights,
            num_views=num_views,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """A model on a device.

    Attributes:
        language: Its language model.
        tower: Its vision tower.
        dtype: Of the language model; weights that are stored shorter are computed in it.
        tower_dtype: Of the tower.
        num_new_tokens: Assumed length of an answer, its end included.
    """

    device: Device
    language: LanguageShape
    tower: TowerShape
    dtype: str
    tower_dtype: str = "float32"
    num_new_tokens: int = 4

    def seconds(
        self, packs: Sequence[Pack], num_questions: int, num_of_run: int | None = None
    ) -> dict[str, float]:
        """Returns the seconds of each of `STAGES` for questions.

        Args:
            packs: Of these questions, or of some that are like them.
            num_questions: How many there are.
            num_of_run: How many the whole run has, which measures near ties once; None for these.
        """
        total = dict.fromkeys(STAGES, 0.0)
        num_planned = sum(len(pack.requests) for pack in packs)
        if not num_planned:
            return total
        kept = 1 - REPLAYED_SHARES[self.dtype]
        replayed = 1 - kept ** (self.num_new_tokens / REPLAYED_LENGTH)
        if self.dtype != "float32":
            run = num_of_run or num_questions
            replayed += brief_each(1, run, Calibration()).num_to_measure / run
        for pack in packs:
            taken = {**self._packed(pack), "replays": min(1.0, replayed) * self._alone(pack)}
            for stage, seconds in taken.items():
                total[stage] += seconds * num_questions / num_planned
        return total | {"parent": num_questions * PARENT_S_PER_QUESTION}

    def _pass(self, num_rows: int, num_new: int, seen: float, cached: int) -> float:
        """Seconds of one pass, in which each new token sees so many, some of them cached."""
        shape, item = self.language, _ITEM_BYTES[self.dtype]
        num_tokens = num_rows * num_new
        flops = 2.0 * num_tokens * shape.num_layer_parameters
        flops += 4.0 * num_tokens * seen * shape.width * shape.num_layers
        cache = 2 * shape.num_layers * shape.key_width * num_rows * cached
        read = item * (shape.num_layer_parameters + cache)
        num_kernels = shape.num_layers * KERNELS_A_LAYER
        return self._bound(flops / self.device.flops(self.dtype), read, num_kernels)

    def _tower(self, num_images: int) -> float:
        """Seconds in which the tower encodes images, some at once."""
        num_calls = -(-num_images * self.tower.num_views // TOWER_BATCH)
        flops_s = num_images * self.tower.flops / self.device.flops(self.tower_dtype)
        num_kernels = num_calls * self.tower.num_layers * TOWER_KERNELS_A_LAYER
        return self._bound(flops_s, num_calls * self.tower.weight_bytes, num_kernels)

    def _packed(self, pack: Pack) -> dict[str, float]:
        """Seconds of the stages of one pack, padding included."""
        num_rows = len(pack.rows)
        prefix_s = suffix_s = 0.0
        limit = CPU_PASS_TOKENS if self.device is CPU_CORE else None
        for part in split_passes(pack.rows, limit):
            rows = [pack.rows[row] for row in part]
            prefix = max(row.prefix_tokens for row in rows)
            suffix = max(row.suffix_tokens for row in rows)
            prefix_s += self._pass(len(rows), prefix, prefix / 2, 0)
            if suffix:
                suffix_s += self._pass(len(rows), suffix, prefix + suffix, prefix)
        asked = max(len(row.requests) for row in pack.rows)
        images = {image.key for row in pack.rows for image in row.requests[0].images}
        slots = max(row.num_tokens for row in pack.rows)
        logits = 2.0 * len(pack.requests) * self.num_new_tokens
        logits *= self.language.vocab_size * self.language.width
        steps = (self.num_new_tokens - 1) * self._pass(num_rows, asked, slots, slots)
        return {
            "tower": self._tower(len(images)),
            "prefix": prefix_s,
            "suffix": suffix_s,
            "decode": steps + logits / self.device.flops(self.dtype),
        }

    def _alone(self, pack: Pack) -> float:
        """Seconds of the questions of a pack one by one."""
        total = 0.0
        for row in pack.rows:
            number = len(row.requests)
            prompt = row.prefix_tokens + row.suffix_tokens // number
            steps = (self.num_new_tokens - 1) * self._pass(1, 1, prompt, prompt)
            read = self._tower(len(row.requests[0].images)) + self._pass(1, prompt, prompt / 2, 0)
            total += number * (read + steps)
        return total

    def _bound(self, flops_s: float, read: float, num_kernels: int) -> float:
        device = self.device
        read_s = read / (device.bytes_per_s * device.read_share)
        return max(flops_s, read_s, num_kernels * device.launch_s)


def plan_for(
    items: Iterable[Sequence[Request]], *, num_image_tokens: int, width: int, on_gpu: bool
) -> list[Pack]:
    """Returns the packs that a worker would make of items of work, where memory does not bind.

    Of a model whose embeddings have `width` numbers.
    """
    return [
        pack
        for item in items
        for pack in plan_packs(
            item,
            max_tokens=GPU_PACK_TOKENS if on_gpu else CPU_PACK_TOKENS,
            max_rows=PACK_ROWS,
            num_image_tokens=num_image_tokens,
            width=width,
        )
    ]


def overall_s(seconds: Mapping[str, float]) -> float:
    """Returns the time in all: the parent works beside the device, once both have started.

    >>> overall_s({"start": 1.0, "prefix": 3.0, "suffix": 2.0, "parent": 1.0})
    6.0
    """
    device = sum(value for stage, value in seconds.items() if stage not in ("start", "parent"))
    return seconds.get("start", 0.0) + max(device, seconds.get("parent", 0.0))


def describe_stages(seconds: Mapping[str, float]) -> str:
    """Returns the seconds of each stage as words.

    >>> describe_stages({"tower": 3.21, "parent": 12.0})
    'tower 3.2 s, parent 12.0 s'
    """
    return ", ".join(f"{stage} {value:,.1f} s" for stage, value in seconds.items())
