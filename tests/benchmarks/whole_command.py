"""A whole command, start and scoring included, against the loop of LLaVA's evaluation scripts.

    python -m tests.benchmarks.whole_command [--repeats 3] [--output FILE]

Four runs, from 1,488 questions to 9: each is answered by `python -m runners.eval` and by
`reference_loop`, in turn, with one thread. What counts is the processor time of all processes; the
answers must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

import torch

from evals.demo import ensure_demo_data
from tests.checkpoints import make_checkpoint, make_tower

CHECKOUT = Path(__file__).parents[2]
DEMO = CHECKOUT / "llava/demo/llava-demo"
NUM_IMAGES = 48
MAX_NEW_TOKENS = 3


@dataclass(frozen=True)
class Case:
    """So many questions of a benchmark for one model."""

    model: str
    task: str
    num_questions: int


CASES = (
    Case("llava-demo", "gqa", 1488),
    Case("random-25m", "gqa", 46),
    Case("random-25m", "vqav2", 16),
    Case("random-25m", "scienceqa", 9),
)


def make_random_25m(folder: Path) -> Path:
    """Writes a checkpoint of the form of the bench's `random-25m`."""
    tower = make_tower(folder / "tower", image_size=336, hidden_size=64, num_layers=2)
    checkpoint = copytree(
        DEMO, folder / "llava-v1.5-bench", ignore=ignore_patterns("*.json", "*.safetensors")
    )
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        (checkpoint / name).write_bytes((DEMO / name).read_bytes())
    return make_checkpoint(
        checkpoint,
        tower,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
    )


def processor_s(module: str, *arguments: str, folder: Path) -> float:
    """Runs a module as its own process; returns the processor time of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def answers(path: Path) -> dict[str, str]:
    """The text of each answer by its question."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {str(line["question_id"]): line["text"] for line in lines}


def measure(case: Case, checkpoint: Path, data: Path, repeats: int) -> dict[str, object]:
    """Returns the figures of one case."""
    pairs, share_equal = [], 1.0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            loop = processor_s(
                "tests.benchmarks.reference_loop",
                *(str(checkpoint), str(data), case.task, str(case.num_questions)),
                *(str(MAX_NEW_TOKENS), str(folder / "loop.jsonl")),
                folder=folder,
            )
            command = processor_s(
                "runners.eval",
                *(f"model.path={checkpoint}", f"task={case.task}", "+data.split=demo", "run=bench"),
                *(f"data.root={data}", f"limit={case.num_questions}", "device=cpu"),
                *("conversation.template=vicuna_v1", "runner.num_threads=1", "dtype=float32"),
                *(f"generation.max_new_tokens={MAX_NEW_TOKENS}", "check_counts=false"),
                folder=folder,
            )
            by_loop = answers(folder / "loop.jsonl")
            stored = answers(folder / f"results/bench/{case.task}/predictions.jsonl")
            if stored.keys() != by_loop.keys():
                sys.exit(f"other questions: {sorted(stored)[:5]} and {sorted(by_loop)[:5]}")
            equal = sum(stored[key] == text for key, text in by_loop.items()) / len(by_loop)
            share_equal = min(share_equal, equal)
        pairs.append((loop, command))
    return {
        "model": case.model,
        "task": case.task,
        "num_questions": case.num_questions,
        "loop_s": [round(loop, 2) for loop, _ in pairs],
        "command_s": [round(command, 2) for _, command in pairs],
        "ratio": round(statistics.median(loop / command for loop, command in pairs), 2),
        "answers_equal": share_equal,
    }


def main() -> None:
    """Measures every case and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = ensure_demo_data(folder / "data", num_images=NUM_IMAGES, seed=0)
        checkpoints = {"llava-demo": DEMO, "random-25m": make_random_25m(folder)}
        results = []
        for case in CASES:
            results.append(measure(case, checkpoints[case.model], data, options.repeats))
            print(json.dumps(results[-1]), flush=True)
    report = {
        "device": {"name": "CPU, 1 thread", "machine": platform.machine()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
