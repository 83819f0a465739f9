"""Runs as they lie on disk, written down without a model: for programs that only read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.figures.statistics import confidence_interval
from runners.options.build import default_spec
from runners.options.task_spec import TaskSpec
from runners.scoring.judge import Judgment
from runners.storage.answer_lines import answer_id
from runners.storage.files import sha256_of_file, sha256_of_json
from runners.storage.summary import JudgeRecord

METRICS = {
    "vqav2": "vqa_accuracy",
    "gqa": "accuracy",
    "vizwiz": "vqa_accuracy",
    "scienceqa": "accuracy",
    "textvqa": "vqa_accuracy",
    "pope": "f1",
    "mme": "perception",
    "mmbench": "accuracy",
    "mmbench_cn": "accuracy",
    "seedbench": "accuracy",
    "llavabench": "score",
    "mmvet": "score",
}


def write_task(
    run_dir: Path,
    name: str,
    scores: Sequence[float],
    *,
    options: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    **summary: Any,
) -> Path:
    """Writes the folder of one finished task and returns it.

    Args:
        run_dir: The run's folder.
        name: The task.
        scores: One a question, each question its own cluster.
        options: Options of the task beside its defaults.
        identity: Fields of the identity beside the usual ones.
        environment: Fields of the environment beside the task.
        summary: Fields of `summary.json` that replace the ones made of the scores.
    """
    default = default_spec(name)
    described = {**(default.to_json() if default else {}), **(options or {})}
    spec = TaskSpec.from_json(described)
    task = spec.build()
    folder = run_dir / task.name
    folder.mkdir(parents=True)
    keys = [str(number) for number in range(len(scores))]
    prompts = [f"<image>\nQuestion {key}?" if int(key) % 2 else f"Question {key}?" for key in keys]
    predictions = [
        {
            "question_id": key,
            "prompt": prompt,
            "text": "yes",
            "answer_id": answer_id(key, "yes", run_dir.name),
            "model_id": run_dir.name,
            "metadata": {"key": key},
        }
        for key, prompt in zip(keys, prompts, strict=True)
    ]
    traces = [
        {
            "key": line["question_id"],
            "attempts": 1,
            "image_sha256": [],
            "image_stat": [],
            "line_sha256": sha256_of_json(line),
        }
        for line in predictions
    ]
    lines = [
        {"question_id": key, "key": key, "cluster": key, "score": score, "answer": "yes"}
        for key, score in zip(keys, scores, strict=True)
    ]
    _write_lines(folder / "predictions.jsonl", predictions)
    _write_lines(folder / "trace.jsonl", traces)
    _write_lines(folder / "scores.jsonl", lines)
    mean = sum(scores) / len(scores)
    judge = JudgeRecord.from_json(summary["judge"]) if summary.get("judge") else None
    if judge is not None and task.grading is not None:
        task = task.with_replies(judge.model, ())
    content = {
        "task": task.name,
        "split": task.split,
        "definition": task.definition,
        "primary_metric": task.primary_metric,
        "metrics": {task.primary_metric: mean},
        "interval": confidence_interval(list(scores), keys) if task.primary_is_mean else None,
        "num_questions": len(scores),
        "num_answered": len(scores),
        "coverage": 1.0,
        "num_failed": {},
        "num_unparsed": 0,
        "expected_num_questions": None,
        "limited": False,
        "hashes": {
            "answers": sha256_of_file(folder / "predictions.jsonl"),
            "prompts": "prompts",
            "data": "data",
            "scorer": Judgment(task=task, record=judge).scorer_hash,
        },
        "timing": {},
        **summary,
    }
    manifest = {
        "identity": {
            "model": run_dir.name,
            "dtype": "float16",
            "quantization": None,
            "generation": {"temperature": 0.0, "top_p": None, "num_beams": 1},
            **(identity or {}),
        },
        "environment": {"task": spec.to_json(), **(environment or {})},
        "history": [],
    }
    (folder / "summary.json").write_text(json.dumps(content))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def scores_of_mean(mean: float, number: int = 400) -> list[float]:
    """Returns right and wrong answers with a given share of right ones, evenly spread."""
    return [float(int((i + 1) * mean) > int(i * mean)) for i in range(number)]


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
