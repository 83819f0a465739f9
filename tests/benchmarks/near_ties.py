"""How many answers packing changes in short formats, and how many a threshold would catch.

    python -m tests.benchmarks.near_ties --dtype bfloat16 --seed 0 [--output FILE]

Over 5,000 demo questions are answered one by one and packed, with nothing computed again. From the
margins of the packed answers follows, for any threshold, which answers would have been computed
again and which of those that differ would have stayed; the engine's own rule is followed question
by question with the engine's own `NearTies`. Several dtypes and seeds make several runs, one after
the other; `--output` is written after each. Exits 1 if the rule leaves an answer that differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llava.generation.calibration import Calibration
from llava.generation.neartie import NearTies
from llava.generation.packed import PackedEngine
from llava.generation.request import Completion, Request, RequestFailure
from llava.generation.sequential import SequentialEngine
from runners.workers.briefing import brief_each
from tests.checkpoints import LoadedModel
from tests.demo_questions import NUM_IMAGES, demo_items, load_demo

CHECKOUT = Path(__file__).parents[2]
THRESHOLDS = (0.0, *(2.0**k for k in range(-10, 3)))


@dataclass(frozen=True)
class Answered:
    """One question answered in both ways.

    Attributes:
        packed: The packed answer.
        tops: The largest logit at each of its steps.
        sequential: The answer alone.
    """

    packed: Completion
    tops: tuple[float, ...]
    sequential: Completion

    @property
    def both(self) -> tuple[Completion, tuple[float, ...], Completion]:
        """What `NearTies.measure` takes."""
        return self.packed, self.tops, self.sequential

    @property
    def differs(self) -> bool:
        """Whether packing changed the answer."""
        return self.packed.token_ids != self.sequential.token_ids


class Watching(NearTies):
    """Has nothing computed again, and keeps the largest logits of the answer it was asked about."""

    tops: tuple[float, ...] = ()

    def note(self, margins: Sequence[float], tops: Sequence[float]) -> bool:  # noqa: ARG002
        """Never due."""
        self.tops = tuple(tops)
        return False

    def must_replay(self, margins: Sequence[float], tops: Sequence[float]) -> bool:  # noqa: ARG002
        """Never."""
        return False


def completed(result: Completion | RequestFailure) -> Completion:
    """Returns an answer; no demo question fails."""
    if isinstance(result, RequestFailure):
        sys.exit(f"{result.key}: {result.cause}: {result.message}")
    return result


def answer_both(model: LoadedModel, items: Sequence[list[Request]]) -> list[Answered]:
    """Returns every question answered in both ways, in the order of the packed answers."""
    sequential, packed = SequentialEngine(*model), PackedEngine(*model)
    packed.near_ties = watching = Watching(model.model.dtype)
    answered = []
    for item in items:
        alone = {result.key: completed(result) for result in sequential.run(item)}
        answered += [
            Answered(completed(result), watching.tops, alone[result.key])
            for result in packed.run(item)
        ]
    return answered


def follow_rule(answered: Sequence[Answered], near_ties: NearTies) -> dict[str, Any]:
    """Returns what the engine would have computed again, and what it would have left different."""
    near_ties.brief(brief_each(1, len(answered), Calibration()))
    num_replayed = num_flips = 0
    for one in answered:
        is_due = near_ties.note(one.packed.margins, one.tops)
        is_near = near_ties.must_replay(one.packed.margins, one.tops)
        num_replayed += is_near and not is_due
        if is_near or is_due:
            near_ties.measure(*one.both, is_due=is_due)
        else:
            num_flips += one.differs
    num_measured = near_ties.calibration.num_measured
    return {
        "threshold": near_ties.threshold,
        "num_measured": num_measured,
        "share_replayed": num_replayed / (len(answered) - num_measured),
        "flips_after_replay": num_flips,
    }


def largest_change(answered: Sequence[Answered], dtype: torch.dtype) -> float:
    """Returns by how many steps packing moved a margin at most, over all questions."""
    near_ties = NearTies(dtype)
    for one in answered:
        near_ties.measure(*one.both, is_due=False)
    return near_ties.calibration.largest_changes[0]


def run(dtype_name: str, seed: int, num_images: int) -> dict[str, Any]:
    """Returns the figures of one dtype and one seed of the generated data."""
    started = time.perf_counter()
    model, dtype = load_demo(dtype_name), getattr(torch, dtype_name)
    with tempfile.TemporaryDirectory() as folder:
        items = list(demo_items(Path(folder), model, num_images=num_images, seed=seed))
        answered = answer_both(model, items)
    rule = follow_rule(answered, NearTies(dtype))
    return {
        "dtype": dtype_name,
        "seed": seed,
        "num_questions": len(answered),
        "flips_without_replay": sum(one.differs for one in answered),
        "largest_change": largest_change(answered, dtype),
        "rule": rule,
        "curve": [
            follow_rule(answered, NearTies(dtype, threshold=threshold)) for threshold in THRESHOLDS
        ],
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Measures, writes the figures and says what the rule left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float16"])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--num-images", type=int, default=NUM_IMAGES)
    parser.add_argument("--output", type=Path, default=CHECKOUT / "results/bench/near-ties.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "device": {"name": "CPU, 1 thread", "machine": platform.machine()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "runs": [],
    }
    for dtype_name in options.dtype:
        for seed in options.seed:
            figures = run(dtype_name, seed, options.num_images)
            report["runs"].append(figures)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            sys.stdout.write(
                f"{dtype_name}, seed {seed}: {figures['num_questions']} questions, "
                f"{figures['flips_without_replay']} flips without replay, "
                f"{figures['rule']['flips_after_replay']} after, "
                f"{figures['rule']['share_replayed']:.2%} computed again, "
                f"{figures['seconds']:.0f} s\n"
            )
            sys.stdout.flush()
    if any(figures["rule"]["flips_after_replay"] for figures in report["runs"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
