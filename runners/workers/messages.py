"""What the parent and a worker process say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.records import Failure
from llava.conversation import Conversation
from llava.generation.calibration import Briefing
from llava.generation.request import Completion, EngineReport, ImageProbe, Request
from runners.options.engine import EngineOptions
from runners.options.model import QuantizationConfig
from runners.workers.loaded_files import Hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """To the worker: build the model and the engine.

    Attributes:
        path: The checkpoint's folder.
        base: The base model's folder, if there is one.
        name: The model's name.
        dtype: float32, float16 or bfloat16.
        quantization: How weights are held.
        attention: `eager`, `sdpa` or `flash_attention_2`; None for the model's default.
        vision_tower_dtype: Dtype of the vision tower; None for the reference's.
        template: Name of the conversation template; None for prompts without one.
        declared: That template where it was declared outside of the package.
        tf32: Whether CUDA devices may multiply float32 in TF32.
        engine: Which engine is built around it.
        source: The hash of the code that the run began with; None where nothing is held against it.
    """

    path: str
    base: str | None
    name: str
    dtype: str
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    attention: str | None = None
    vision_tower_dtype: str | None = None
    template: str | None = None
    declared: Conversation | None = None
    tf32: bool = False
    engine: EngineOptions
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HashWeights:
    """To the worker: hash the tensors in weight files, by role, before the model is built."""

    files: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """To the worker: requests that are computed together; the unit of dealing.

    Attributes:
        number: Counts the items of a run.
        requests: Whole groups of requests with the same images.
    """

    number: int
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a worker's model is on.

    Attributes:
        device: `cpu`, or `cuda:N`, several of them joined by commas.
        device_name: `cpu`, or the name that CUDA gives, likewise.
        cuda: Version of CUDA; None on a CPU.
        num_threads: Threads of torch.
    """

    device: str
    device_name: str
    cuda: str | None
    num_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """From the worker: imports are done.

    Attributes:
        devices: What the model will be on: `cpu`, `cuda:N`, or several of the latter.
        num_visible: How many CUDA devices the machine shows.
        default_dtype: The dtype that is used there unless another is asked for.
        hardware: Device names and threads.
    """

    devices: tuple[str, ...]
    num_visible: int
    default_dtype: str
    hardware: Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoaded:
    """From the worker: the model is on the device.

    Attributes:
        load_s: Seconds it took.
        report: The fields of `LoadReport`.
        files: Hashes of every file that was read, by role and name.
        attention: Its implementation, and the kernels that it may take.
        max_tokens: Cache slots of a pack of its engine; None for one that has no packs.
    """

    load_s: float
    report: Mapping[str, Any]
    files: Hashes
    attention: str
    max_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsHashed:
    """From the worker: hashes by the role of the folder."""

    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesProbed:
    """From the worker: what was found."""

    probe: ImageProbe | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """From the worker: requests of the item that it computes are done."""

    results: tuple[Completion | Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDone:
    """From the worker: an item is through; `report` is what the engine has done so far."""

    number: int
    report: EngineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """From the worker: the model is computing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadInput:
    """From the worker: the model cannot be built from what it was given; it ends after this.

    Attributes:
        message: What is wrong, and the remedy.
        traceback: Where that was found.
    """

    message: str
    traceback: str


ToWorker = HashWeights | LoadModel | Request | WorkItem | Briefing
"""A request alone is one whose images are to be probed; a briefing is about near ties."""

FromWorker = (
    Ready | WeightsHashed | ModelLoaded | ImagesProbed | Answered | ItemDone | Beat | BadInput
)
