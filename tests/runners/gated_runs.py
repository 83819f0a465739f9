"""Scored runs in `results`, as the gate finds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.evals.small_data import put_lines


def store(
    run: str,
    task: str,
    scores: Sequence[float],
    *,
    answers: Sequence[str] | None = None,
    questions_per_image: int = 1,
    identity: dict[str, Any] | None = None,
    **summary: Any,
) -> Path:
    """Writes one scored task of a run."""
    folder = Path("results", run, task)
    folder.mkdir(parents=True)
    given = answers or [f"answer {value}" for value in scores]
    put_lines(folder / "predictions.jsonl", [{"text": text} for text in given])
    lines = [
        {
            "question_id": n,
            "key": str(n),
            "cluster": f"{n // questions_per_image}.jpg",
            "score": value,
            "answer": given[n],
        }
        for n, value in enumerate(scores)
    ]
    put_lines(folder / "scores.jsonl", lines)
    content = {
        "task": task,
        "split": "test",
        "definition": "exact/1",
        "primary_metric": "accuracy",
        "metrics": {"accuracy": sum(scores) / len(scores)},
        "interval": None,
        "coverage": 1.0,
        "num_failed": {},
        "num_questions": len(scores),
        "num_answered": len(scores),
        "limited": False,
        **summary,
    }
    digest = hashlib.sha256((folder / "predictions.jsonl").read_bytes()).hexdigest()
    hashes = {"answers": digest, "prompts": "p", "data": "d", "scorer": "s"}
    content["hashes"] = hashes | summary.get("hashes", {})
    (folder / "summary.json").write_text(json.dumps(content))
    made_by = {"model": run, "data": {"questions.json": content["hashes"]["data"]}}
    manifest = {"identity": made_by | (identity or {}), "environment": {}, "history": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def right(number: int, wrong: int = 0) -> list[float]:
    """Scores of so many questions, the first of them wrong."""
    return [0.0] * wrong + [1.0] * (number - wrong)
