"""What share of its time a worker waits for work or for images.

Run as `python -m tests.benchmarks.worker_waits`.

A real worker process plans packs, opens images that take 15 ms each and answers, but sleeps where a
GPU would compute: 33 ms an image with GQA's 31 questions, 20 ms one with a single question. Items
are rendered and dealt by the parent as in a run. The time runs from the beginning of the first pack
to the end of the last. `items` is the share of it in which the engine had nothing to do, `images`
that in which it waited for images, `idle` all in which no pack was computed: both of these, and the
worker's own work around packs. `start_s` are the seconds from the first question to the first pack.
`before` gives a worker one item at a time, of the size that suits a CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from evals.records import Sample
from llava.generation.request import GenerationConfig
from llava.tokenizer import load_tokenizer
from runners.environment import num_cores
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.work import Work
from runners.lab.bench.models import DEMO_DIR
from runners.options.engine import PackedOptions
from runners.workers import pool as pools
from runners.workers.messages import LoadModel
from runners.workers.pool import LocalWorkers
from tests.benchmarks.sleeping_engine import PackTime, SlowImage

IMAGE_S = 0.015
NUM_IMAGE_TOKENS = 576
TEXT = "Is the small bowl to the left of plate {} that is on the table {} made of glass?"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Questions of a benchmark: how many an image, and how long an image takes with them."""

    num_questions: int
    seconds_per_row: float


SHAPES = {
    "gqa": Shape(num_questions=31, seconds_per_row=0.033),
    "one question an image": Shape(num_questions=1, seconds_per_row=0.020),
}


@dataclass(kw_only=True, slots=True)
class SleepingOptions(PackedOptions):
    """Options of `SleepingEngine`."""

    _target_: str = "tests.benchmarks.sleeping_engine.SleepingEngine"
    seconds_per_row: float = 0.0
    ahead: bool = True
    log: str = ""


def samples(shape: Shape, num_images: int) -> list[Sample]:
    return [
        Sample(key=key, question_id=key, text=text, prompt=text, images=(image,))
        for image in (SlowImage(str(number), IMAGE_S) for number in range(num_images))
        for number in range(shape.num_questions)
        for key, text in [(f"{image.key}-{number}", TEXT.format(number, image.key))]
    ]


def measure(
    shape: Shape, asked: Sequence[Sample], *, ahead: bool, threads: int, log: Path
) -> dict[str, float]:
    """Shares of the time of a run."""
    engine = SleepingOptions(
        replay="off",
        max_tokens=65_536,
        num_preprocess_threads=threads,
        seconds_per_row=shape.seconds_per_row,
        ahead=ahead,
        log=str(log),
    )
    order = LoadModel(
        path=str(DEMO_DIR), base=None, name="llava-demo", dtype="float32", engine=engine
    )
    pools._AHEAD = 2 if ahead else 1
    with closing(LocalWorkers(num_workers=1, num_threads=1)) as pool:
        pool.start("cpu")
        loaded = pool.load(order)
        work = Work(
            samples=asked,
            renderer=PromptRenderer("vicuna_v1", load_tokenizer(DEMO_DIR)),
            generation=GenerationConfig(max_new_tokens=16),
            num_image_tokens=NUM_IMAGE_TOKENS,
            pack_tokens=loaded.max_tokens if ahead else None,
        )
        started = time.monotonic()
        num_answered = sum(each is not None for each in pool.answer(work.items()))
    assert num_answered == len(asked)
    packs = [PackTime(**json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]
    first, last = packs[0], packs[-1]
    seconds = last.end - first.start
    return {
        "seconds": round(seconds, 2),
        "num_packs": len(packs),
        "items": round((last.items_s - first.items_s) / seconds, 4),
        "images": round((last.images_s - first.images_s) / seconds, 4),
        "idle": round(1 - sum(pack.end - pack.start for pack in packs) / seconds, 4),
        "start_s": round(first.start - started, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of computing in each run")
    parser.add_argument("--threads", type=int, default=4, help="that open images")
    parser.add_argument(
        "--at-most", type=float, default=1.0, help="exit 1 above this share of items and images"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result: dict[str, object] = {"image_s": IMAGE_S, "threads": options.threads}
    worst = 0.0
    for name, shape in SHAPES.items():
        asked = samples(shape, int(options.seconds / shape.seconds_per_row))
        figures = {}
        for label, ahead in (("before", False), ("now", True)):
            with TemporaryDirectory() as folder:
                log = Path(folder, "packs.jsonl")
                figures[label] = measure(
                    shape, asked, ahead=ahead, threads=options.threads, log=log
                )
        worst = max(worst, figures["now"]["items"] + figures["now"]["images"])
        result[name] = {"num_questions": len(asked), **figures}
        print(name, json.dumps(result[name]), flush=True)
    result["num_cores"] = num_cores()
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if worst <= options.at_most else 1


if __name__ == "__main__":
    raise SystemExit(main())
