"""Scores saved answers without the model: `python -m runners.score task=... predictions=...`.

`predictions=FILE output=DIR` scores an answer file, `predictions=FILE run=NAME` makes a stored run
of it, `run=NAME merge=[PART,PART]` joins the parts of a run, and `run=NAME` alone scores a stored
run again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.figures.summary import Summary, summarize, summarize_unscored
from evals.scorers.judge import Judged
from evals.submission import Submittable
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.logs import RunLog
from runners.options.build import build_task, read_settings, read_task_specs
from runners.options.score import ScoreConfig, is_name
from runners.scoring.endpoint import JudgeError
from runners.scoring.judge import Judgment, judge_answers
from runners.scoring.score import score_run
from runners.storage.answers import PREDICTIONS_FILE
from runners.storage.files import (
    hash_data_files,
    read_intact_lines,
    sha256_of_file,
    sha256_of_json,
)
from runners.storage.importing import read_import, store_import
from runners.storage.lines import is_answer_line, is_failure, key_of, read_prediction
from runners.storage.merging import merge_task, part_names, read_part_specs
from runners.storage.run_table import render_summaries, write_tables
from runners.storage.stored import read_run_specs
from runners.storage.summary import read_summary, write_results

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)


def score(config: DictConfig) -> int:
    """Scores what one composed configuration names and returns the exit code."""
    settings = read_settings(config, ScoreConfig)
    _check_form(config, settings)
    with RunLog():
        try:
            return _score(config, settings)
        except JudgeError as error:
            logger.error("%s", error)
            return INCOMPLETE


def _check_form(config: DictConfig, settings: ScoreConfig) -> None:
    """Checks that the options name one of the things that can be scored.

    Raises:
        ConfigError: they do not.
    """
    if settings.merge is not None and (settings.predictions is not None or settings.run is None):
        raise ConfigError(
            "`merge` needs the `run` that its parts are joined into, and no `predictions`. Use "
            "run=NAME."
        )
    if settings.predictions is None and settings.run is None:
        raise ConfigError(
            "`predictions` or `run` must be given. Use predictions=ANSWERS.jsonl for an answer "
            "file, run=NAME for a stored run."
        )
    if settings.predictions is not None and (settings.run is None) == (settings.output is None):
        raise ConfigError(
            "`predictions` needs either an `output` folder, or a `run` to be made of it. Use "
            "output=DIR or run=NAME."
        )
    if settings.predictions is not None and len(config.tasks) != 1:
        raise ConfigError("`predictions` needs exactly one `task`. Use task=NAME.")
    if settings.run is not None and not is_name(settings.run):
        raise ConfigError(
            f"`run` must be a name without slashes, but is {settings.run!r}. Use results_dir=DIR "
            "for runs elsewhere."
        )


def _score(config: DictConfig, settings: ScoreConfig) -> int:
    run_dir = Path(settings.results_dir) / str(settings.run)
    output = run_dir if settings.output is None else Path(settings.output)
    specs = _read_specs(config, settings, run_dir)
    _check_judge(specs, settings)
    if settings.merge is not None:
        results = [_merge(spec, settings, run_dir, output) for spec in specs.values()]
    elif settings.predictions is None:
        scored = [_Stored(spec, run_dir / name, settings) for name, spec in specs.items()]
        results = [task.score(output / task.folder.name) for task in scored]
    else:
        work = _score_file if settings.run is None else _import_file
        results = [work(spec, settings, output) for spec in specs.values()]
    if output == run_dir:
        write_tables(run_dir)
    table = render_summaries(results)
    print(table if settings.run is None else f"{settings.run}\n{table}")
    complete = all(_is_complete(summary) for summary in results)
    return COMPLETE if complete else INCOMPLETE


def _read_specs(
    config: DictConfig, settings: ScoreConfig, run_dir: Path
) -> dict[str, dict[str, Any]]:
    """The tasks that are scored, by name."""
    if settings.merge is not None:
        return read_part_specs(config, _part_dirs(settings, run_dir))
    return (
        read_run_specs(config, run_dir) if settings.predictions is None else read_task_specs(config)
    )


def _part_dirs(settings: ScoreConfig, run_dir: Path) -> list[Path]:
    return [run_dir.with_name(name) for name in part_names(settings.merge, run_dir.name)]


def _check_judge(specs: Mapping[str, Mapping[str, Any]], settings: ScoreConfig) -> None:
    judged = [name for name, spec in specs.items() if isinstance(build_task(spec), Judged)]
    if settings.judge.name != "none" and not judged:
        raise ConfigError(
            f"judge={settings.judge.name} is given, but no judge grades {', '.join(specs)}. Leave "
            "it out."
        )


def _is_complete(summary: Mapping[str, Any]) -> bool:
    unjudged = "judge" in summary and summary["judge"] is None
    return summary["num_answered"] == summary["num_questions"] and not unjudged


def _score_file(spec: dict[str, Any], settings: ScoreConfig, output: Path) -> dict[str, Any]:
    """Scores a foreign answer file and returns the summary, which is also written."""
    path = str(settings.predictions)
    found = read_import(build_task(spec), path)
    folder = output / build_task(spec).name
    judgment = judge_answers(spec, found.predictions, folder, settings.judge)
    task = judgment.task
    if judgment.missing:
        number = len(task.samples())
        summary = summarize_unscored(task, number, len(found.predictions), found.failures)
        scores = []
    else:
        scores = task.score(found.predictions)
        summary = summarize(task, scores, found.failures)
    _tell(judgment, summary)
    content = summary.to_json() | _extras(judgment, found.path)
    write_results(folder, content, scores)
    return content


def _import_file(spec: dict[str, Any], settings: ScoreConfig, run_dir: Path) -> dict[str, Any]:
    """Makes a run of a foreign answer file, scores it and returns the summary."""
    task = build_task(spec)
    found = read_import(task, str(settings.predictions))
    origin = store_import(found, task, spec, run_dir, overwrite=settings.overwrite)
    summary = {
        "num_questions": origin["num_questions"],
        "limited": False,
        "imported": {"sha256": found.sha256, "num_unreadable": found.num_unreadable},
        "hashes": {"answers": None, "prompts": origin["prompts"]},
        "timing": {},
    }
    stored = _Stored(spec, run_dir / task.name, settings, summary)
    return stored.score(stored.folder)


def _merge(
    spec: dict[str, Any], settings: ScoreConfig, run_dir: Path, output: Path
) -> dict[str, Any]:
    """Joins the parts of a task, scores the whole and returns the summary."""
    parts = _part_dirs(settings, run_dir)
    merged = merge_task(spec, parts, run_dir, overwrite=settings.overwrite)
    folder = run_dir / build_task(spec).name
    stored = _Stored(spec, folder, settings, dict(merged.summary), asked=merged.asked)
    return stored.score(output / folder.name)


class _Stored:
    """The stored answers of a task.

    Args:
        spec: The task, as `_target_` plus values.
        folder: The task's folder.
        settings: The options.
        summary: What is known of the answers beside their scores; None reads what is stored.
        asked: The keys of the questions that were asked; None takes those that are stored.

    Raises:
        ConfigError: the folder holds no complete run.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        folder: Path,
        settings: ScoreConfig,
        summary: dict[str, Any] | None = None,
        *,
        asked: Collection[str] | None = None,
    ) -> None:
        stored = summary or read_summary(folder)
        if stored is None:
            raise ConfigError(
                f"{folder} holds no complete run. Repeat the command of runners.eval that began it."
            )
        self.folder = folder
        self._spec = spec
        self._settings = settings
        self._summary = stored
        self._asked = asked

    def score(self, output: Path) -> dict[str, Any]:
        """Scores the answers and returns the summary, which is also written.

        Which questions were asked is in the summary that is there.
        """
        stored = read_intact_lines(self.folder / PREDICTIONS_FILE)
        lines = [line for line in stored if is_answer_line(line)]
        if len(lines) < len(stored):
            logger.error(
                "%d lines of %s are not as they were written and count as missing. The command "
                "that answered the questions asks them again; answers from elsewhere become a run "
                "of their own with predictions=FILE run=NAME.",
                len(stored) - len(lines),
                self.folder / PREDICTIONS_FILE,
            )
        answers = [read_prediction(line) for line in lines if not is_failure(line)]
        by_key = {answer.key: answer for answer in answers}
        judgment = judge_answers(self._spec, by_key, self.folder, self._settings.judge)
        keys = self._asked or {key for line in stored if (key := key_of(line)) is not None}
        limited = keys if self._summary.get("limited") else None
        number = int(self._summary.get("num_questions", len(lines)))
        summary, scores = score_run(judgment.task, lines, number, only=limited)
        _tell(judgment, summary)
        extras = _extras(judgment, self.folder / PREDICTIONS_FILE)
        content = self._summary | summary.to_json() | extras
        content["hashes"] = {**self._summary.get("hashes", {}), **extras["hashes"]}
        write_results(output, content, scores)
        return content


def _tell(judgment: Judgment, summary: Summary) -> None:
    """Says what the figures do not."""
    expected = summary.expected_num_questions
    if expected not in (None, summary.num_questions):
        logger.warning(
            "%s %s has %d questions here, but %d are published",
            summary.task,
            summary.split,
            summary.num_questions,
            expected,
        )
    if judgment.missing:
        logger.error("Not scored: %s", judgment.missing)
    elif not judgment.task.has_annotations and isinstance(judgment.task, Submittable):
        logger.info(
            "%s %s has no public annotations: runners.submit writes the file for the server",
            summary.task,
            summary.split,
        )


def _extras(judgment: Judgment, answers: Path) -> dict[str, Any]:
    task = judgment.task
    extras: dict[str, Any] = {
        "primary_metric": task.primary_metric,
        "hashes": {
            "answers": sha256_of_file(answers),
            "data": sha256_of_json(hash_data_files(task.data_files())),
            "scorer": judgment.scorer_hash,
        },
    }
    if judgment.is_judged:
        extras["judge"] = judgment.record
    return extras


def main() -> None:
    """The program."""
    from runners.options.program import main as run_program

    run_program("score", score)


if __name__ == "__main__":
    main()
