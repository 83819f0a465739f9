"""The typed schema of `runners.bench`."""

from __future__ import annotations

from dataclasses import dataclass, field

from runners.options.checks import check_fields
from runners.options.engine import REPLAYS
from runners.options.kinds import device_option, option, path_option
from runners.options.model import DTYPES


@dataclass(kw_only=True, slots=True)
class BenchConfig:
    """Options of `runners.bench`.

    Attributes:
        workload: gqa, vqav2, scienceqa, generate; demo, the questions of llava-demo.
        model: llava-demo, random-25m, random-7b, random-13b.
        engine: sequential, batched, packed.
        num_images: Images of a workload; null for its own usual number.
        repeats: How often each engine answers everything, in turn.
        num_threads: Threads of torch.
        dtype: float32, float16, bfloat16.
        tower_dtype: Of the vision tower; null for float32, as in the reference.
        device: null for CUDA where there is one.
        replay: Of the packed engine.
        max_tokens: Of the packed engine.
        batch_size: Of the batched engine.
        questions: LLaVA's GQA question file, for its real group sizes; with `roofline` any of
            LLaVA's question files, whose questions are then all that is asked.
        seed: Of prompts and lengths.
        roofline: A device, such as h200: nothing is run, but told what it would take there.
        output: A file for the figures as JSON.
    """

    workload: list[str] = option(lambda: ["gqa", "vqav2", "scienceqa", "generate"])
    model: str = "random-25m"
    engine: list[str] = option(lambda: ["sequential", "batched", "packed"])
    num_images: int | None = option(None, least=1)
    repeats: int = option(1, least=1)
    num_threads: int = option(1, least=1)
    dtype: str = option("float32", choices=DTYPES)
    tower_dtype: str | None = option(None, choices=DTYPES)
    device: str | None = device_option()
    replay: str = option("near_ties", choices=REPLAYS)
    max_tokens: int | None = option(None, least=1)
    batch_size: int = option(16, least=1)
    questions: str | None = path_option(None)
    seed: int = 0
    roofline: str | None = None
    output: str | None = path_option(None)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(kw_only=True, slots=True)
class BenchProgramConfig:
    """`runners.bench`: its options, below a name so that they are not taken for groups."""

    bench: BenchConfig = field(default_factory=BenchConfig)
