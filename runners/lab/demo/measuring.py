"""Accuracy by question kind, of a written checkpoint on held-out data with the official scorers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evals.benchmark import Benchmark
from evals.demo import DEMO_SPLIT
from evals.errors import DataError
from evals.records import Failure, Prediction, Sample
from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2
from llava.generation.request import GenerationConfig
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from runners.evaluation.prompts import PromptRenderer

_MAX_NEW_TOKENS = 8  # the longest demo answer has fewer
_BENCHMARKS = {"vqav2": VQAv2, "gqa": GQA, "scienceqa": ScienceQA}


@dataclass(frozen=True, slots=True, kw_only=True)
class KindScore:
    """How one kind of question is answered.

    Attributes:
        task: The benchmark.
        kind: The kind, `all` for the whole benchmark.
        accuracy: Mean official score, 0..1.
        baseline: The share of the most frequent answer of the kind, 0..1.
        num_questions: Number of questions.
    """

    task: str
    kind: str
    accuracy: float
    baseline: float
    num_questions: int


def measure_checkpoint(checkpoint: Path, conversation: str, data_root: Path) -> list[KindScore]:
    """Accuracies of a checkpoint on demo data, each benchmark's total first, then its kinds.

    `conversation` is its template, and `data_root` is what `ensure_demo_data` gave.

    Raises:
        DataError: the data cannot be read or asked.
    """
    tokenizer, model, processor, context_length = load_pretrained_model(
        str(checkpoint), None, checkpoint.name, device="cpu"
    )
    engine = SequentialEngine(tokenizer, model, processor, context_length)
    renderer = PromptRenderer(conversation, tokenizer)
    scores: list[KindScore] = []
    for name, benchmark in _BENCHMARKS.items():
        task = benchmark(data_dir=data_root / name, split=DEMO_SPLIT)
        samples = task.samples()
        values = _score_samples(task, samples, engine, renderer)
        kinds = _read_kinds(name, data_root / name)
        rows = [(kinds[s.key], values[s.key], _main_target(s.target)) for s in samples]
        judged = pd.DataFrame(rows, columns=["kind", "value", "target"])
        scores += [
            KindScore(
                task=name,
                kind=str(kind),
                accuracy=float(part["value"].mean()),
                baseline=float(part["target"].value_counts(normalize=True).max()),
                num_questions=len(part),
            )
            for kind, part in (("all", judged), *judged.groupby("kind"))
        ]
    return scores


def render_table(scores: Sequence[KindScore]) -> str:
    """The scores as a table for the screen, in percent."""
    lines = [f"{'benchmark':<11}{'kind':<20}{'accuracy':>9}{'majority':>10}{'questions':>11}"]
    lines += [
        f"{score.task:<11}{score.kind:<20}{100 * score.accuracy:>9.1f}"
        f"{100 * score.baseline:>10.1f}{score.num_questions:>11}"
        for score in scores
    ]
    return "\n".join(lines)


def _score_samples(
    task: Benchmark, samples: Sequence[Sample], engine: SequentialEngine, renderer: PromptRenderer
) -> dict[str, float]:
    generation = GenerationConfig(max_new_tokens=_MAX_NEW_TOKENS)
    predictions = {}
    for sample in samples:
        request = renderer.build_request(sample, generation)
        if isinstance(request, Failure):
            raise DataError(f"{task.name} question {request.key}: {request.message}")
        key, text = sample.key, engine.complete(request).text
        predictions[key] = Prediction(
            key=key, question_id=sample.question_id, prompt=sample.prompt, text=text
        )
    return {score.key: score.value for score in task.score(predictions)}


def _main_target(target: str | tuple[str, ...]) -> str:
    """The target; of several annotators' answers the most frequent one."""
    return target if isinstance(target, str) else Counter(target).most_common(1)[0][0]


def _read_kinds(task: str, folder: Path) -> dict[str, str]:
    """The kind of each question by key, as the official files name it."""

    def read(path: str) -> Any:
        return json.loads((folder / path).read_text(encoding="utf-8"))

    if task == "vqav2":
        annotations = read(f"v2_mscoco_{DEMO_SPLIT}_annotations.json")["annotations"]
        return {str(record["question_id"]): record["question_type"] for record in annotations}
    if task == "gqa":
        questions = read(f"data/{DEMO_SPLIT}_questions.json")
        return {key: record["types"]["detailed"] for key, record in questions.items()}
    return {key: record["skill"] for key, record in read("problems.json").items()}
