"""Scores saved answers without the model: `python -m runners.score task=... predictions=...`.

Or scores a stored run again: `python -m runners.score run=NAME`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.answers import AnswerFile, read_answers
from evals.records import Failure
from evals.summary import summarize
from evals.task import Task
from runners.answer_lines import key_of
from runners.build import build_task, read_settings, read_task_specs
from runners.config import ScoreConfig
from runners.errors import ConfigError
from runners.files import (
    hash_data_files,
    read_intact_lines,
    sha256_of_file,
    sha256_of_json,
)
from runners.logs import RunLog
from runners.manifest import read_manifest
from runners.scoring import read_summary, score_run, write_results
from runners.tables import render_summaries

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_COMPLETE, _INCOMPLETE = 0, 1


def score(config: DictConfig) -> int:
    """Scores what one composed configuration names and returns the exit code."""
    settings = read_settings(config, ScoreConfig)
    if (settings.predictions is None) == (settings.run is None):
        raise ConfigError(
            "Exactly one of `predictions` and `run` must be given. Use predictions=ANSWERS.jsonl "
            "for an answer file, run=NAME for a stored run."
        )
    with RunLog():
        if settings.predictions is not None:
            specs = list(read_task_specs(config).values())
            summaries = [score_file(specs, settings.predictions, settings.output)]
        else:
            summaries = _score_stored(config, settings)
        print(render_summaries(summaries))
    complete = all(summary["num_answered"] == summary["num_questions"] for summary in summaries)
    return _COMPLETE if complete else _INCOMPLETE


def score_file(specs: list[dict[str, Any]], predictions: str, output: str | None) -> dict[str, Any]:
    """Scores a foreign answer file and returns the summary, which is also written.

    Args:
        specs: The one task.
        predictions: An answer file in LLaVA's JSONL.
        output: Where the results go, in a folder named after the task.

    Raises:
        ConfigError: there is not exactly one task, or no output folder.
        DataError: a file is missing or malformed, or the answers are of another split.
    """
    if len(specs) != 1 or output is None:
        raise ConfigError(
            "`predictions` needs exactly one `task` and an `output` folder. Use task=NAME "
            "predictions=ANSWERS.jsonl output=DIR."
        )
    task = build_task(specs[0])
    answers = read_answers(predictions)
    for line in answers.unreadable:
        logger.warning("skipped: %s", line)
    scores = task.score(task.match(answers.answers))
    summary = summarize(task, scores, _read_failures(task, answers))
    expected = summary.expected_num_questions
    if expected not in (None, summary.num_questions):
        logger.warning(
            "%s %s has %d questions here, but %d are published",
            task.name,
            task.split,
            summary.num_questions,
            expected,
        )
    content = summary.to_json() | _extras(task, Path(predictions))
    write_results(Path(output) / task.name, content, scores)
    return content


def _score_stored(config: DictConfig, settings: ScoreConfig) -> list[dict[str, Any]]:
    run_dir = Path(settings.results_dir) / str(settings.run)
    specs = read_task_specs(config) if config.tasks else _stored_specs(run_dir)
    output = run_dir if settings.output is None else Path(settings.output)
    return [_score_task(build_task(spec), run_dir / name, output) for name, spec in specs.items()]


def _stored_specs(run_dir: Path) -> dict[str, dict[str, Any]]:
    """How the tasks were configured when the run was made."""
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir} does not exist. Check `run` and `results_dir`.")
    specs = {}
    for folder in sorted(run_dir.iterdir()):
        manifest = read_manifest(folder) if folder.is_dir() and ".old-" not in folder.name else None
        if manifest is not None:
            specs[folder.name] = manifest["environment"]["task"]
    if not specs:
        raise ConfigError(f"{run_dir} holds no task. Run runners.eval first, or check `run`.")
    return specs


def _score_task(task: Task, folder: Path, output: Path) -> dict[str, Any]:
    """Scores the stored answers of a task again; which questions were asked is in its summary."""
    stored = read_summary(folder)
    if stored is None:
        raise ConfigError(
            f"{folder} holds no complete run. Repeat the command of runners.eval that began it."
        )
    lines = read_intact_lines(folder / "predictions.jsonl")
    keys = {key for line in lines if (key := key_of(line)) is not None}
    limited = keys if stored.get("limited") else None
    summary, scores = score_run(task, lines, len(lines), only=limited)
    content = stored | summary.to_json() | _extras(task, folder / "predictions.jsonl")
    content["hashes"] = {**stored.get("hashes", {}), **content["hashes"]}
    write_results(output / task.name, content, scores)
    return content


def _read_failures(task: Task, answers: AnswerFile) -> dict[str, Failure]:
    """Failures that a run of this project recorded in its answer file."""
    failures = {}
    for line in answers.failed:
        for key in task.match([line]):
            error: Mapping[str, Any] = line["metadata"]["error"]
            cause, message = str(error.get("cause")), str(error.get("message"))
            failures[key] = Failure(key=key, cause=cause, message=message)
    return failures


def _extras(task: Task, answers: Path) -> dict[str, Any]:
    data = hash_data_files(task.data_files())
    return {
        "primary_metric": task.primary_metric,
        "hashes": {
            "answers": sha256_of_file(answers),
            "data": sha256_of_json(data),
            "scorer": sha256_of_json(task.definition),
        },
    }


def main() -> None:
    """The program."""
    from runners.cli import main as run_program

    run_program("score", score)


if __name__ == "__main__":
    main()
