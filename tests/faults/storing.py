"""Stores the answers of a task that no model is needed for; killed where a test says so.

`python -m tests.faults.storing [--step STEP --after K --] FOLDER`: the steps are those of
`tests.faults.killing_eval`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.records import Cause, Failure
from llava.generation.request import Completion
from runners.errors import ConfigError, StoreError
from runners.storage.summary import SummaryFile
from tests.runners.task_runs import ENVIRONMENT, IDENTITY, build_task_run

NUM_QUESTIONS = 9


def write_questions(folder: Path) -> None:
    lines = [
        {"question_id": number, "text": f"What is {number}?", "answer": f"it is {number}"}
        for number in range(NUM_QUESTIONS)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "questions.jsonl").write_text(content)


def store_answers(folder: Path, *, failing: tuple[str, ...] = (), **options: Any) -> SummaryFile:
    """Goes on with the run in a folder, to its end; returns the summary."""
    spec = {
        "_target_": "evals.tasks.custom.Custom",
        "questions": str(folder / "questions.jsonl"),
        "scorer": "exact",
    }
    with build_task_run(spec, folder / "run", **options) as task_run:
        task_run.lock()
        task_run.check(IDENTITY)
        task_run.open()
        pending = task_run.pending()
        if pending:
            task_run.begin(IDENTITY, ENVIRONMENT)
        for sample in reversed(pending):
            if sample.key in failing:
                failure = Failure(key=sample.key, cause=Cause.ERROR, message="no")
                task_run.record(sample, failure, worker="w")
            else:
                task_run.record(sample, answer(sample.key), worker="w")
        return task_run.finish(None)


def answer(key: str) -> Completion:
    return Completion(
        key=key,
        token_ids=(1, 2),
        text=f"it is {key}",
        finish_reason="stop",
        num_prompt_tokens=5,
        min_margin=None,
        latency_s=0.1,
    )


def main(words: list[str]) -> int:
    """Returns the exit code that the programs have."""
    if "--" in words:
        from tests.faults.killing_eval import arm, read_trap

        trap, words = read_trap(words)
        arm(trap)
    try:
        store_answers(Path(words[0]))
    except (ConfigError, DataError, StoreError) as error:
        print(error, file=sys.stderr)
        return 1 if isinstance(error, StoreError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
