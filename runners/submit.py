"""Writes the file that a benchmark's server takes: `python -m runners.submit task=... run=...`.

The answers are checked first: all of the split, no others, none empty, none twice with different
texts. Only then the file is written, whole or not at all.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from evals.benchmark import Benchmark
from evals.reading.answers import AnswerFile, read_answers
from evals.submission import Submission, build_submission
from runners.errors import COMPLETE, ConfigError
from runners.logs import RunLog, doing
from runners.options import program
from runners.options.build import read_settings
from runners.options.given import TaskChoice, read_task_choice
from runners.options.submit import SubmitConfig
from runners.options.task_spec import TaskSpec
from runners.storage.answer_lines import is_failure
from runners.storage.files import write_atomic
from runners.storage.specs import read_run_specs
from runners.storage.stored import StoredTask, find_run

logger = logging.getLogger(__name__)


def submit(config: DictConfig) -> int:
    """Writes the upload of one composed configuration and returns the exit code."""
    settings = read_settings(config, SubmitConfig)
    with RunLog():
        spec, stored = _find_task(read_task_choice(config), settings)
        task = spec.build()
        output = Path(settings.output)
        _check_output(task, output, overwrite=settings.overwrite)
        answers = read_answers(str(settings.predictions)) if stored is None else _answers_of(stored)
        for line in answers.complaints():
            logger.warning("skipped: %s", line)
        with doing("reading the questions of the split"):
            submission = build_submission(task, answers, allow_missing=settings.allow_missing)
        write_atomic(output, submission.content)
        num_answered = len({str(line["question_id"]) for line in answers.answers})
        print(_describe(task, submission, num_answered, output))
    return COMPLETE


def _find_task(choice: TaskChoice, settings: SubmitConfig) -> tuple[TaskSpec, StoredTask | None]:
    """The task, and its stored answers unless they are in a file; the options must name one."""
    if (settings.predictions is None) == (settings.run is None):
        raise ConfigError(
            "Exactly one of `predictions` and `run` must be given. Use predictions=ANSWERS.jsonl "
            "for an answer file, run=NAME for a stored run."
        )
    if len(choice.specs) != 1:
        raise ConfigError("`task` must name exactly one benchmark. Use task=NAME.")
    if settings.predictions is not None:
        [spec] = choice.specs.values()
        return spec, None
    run = find_run(str(settings.run), Path(settings.results_dir), "run")
    [(name, spec)] = read_run_specs(choice, run).items()
    return spec, StoredTask(run.folder / name)


def _answers_of(stored: StoredTask) -> AnswerFile:
    """The answers of a stored task, all of which must be as they were written.

    Raises:
        ConfigError: some are not, or there are none.
    """
    answers = stored.require_answers()
    if answers.num_bad:
        raise ConfigError(
            f"{stored.answers_path}: lines that are not as they were written: "
            f"{answers.num_bad:,}. No server should take them for the model's. Repeat the command "
            "that answered the questions, which asks them again, or send the file as it is with "
            "predictions=FILE."
        )
    found = AnswerFile(answers=[], failed=[], unreadable=[])
    for line in answers.lines.values():
        (found.failed if is_failure(line) else found.answers).append(dict(line))
    return found


def _check_output(task: Benchmark, output: Path, *, overwrite: bool) -> None:
    """Checks the file's name, and that nothing lies there, before anything is read."""
    if task.upload is not None and output.suffix != task.upload.suffix:
        raise ConfigError(
            f"`output` must end in {task.upload.suffix}, as the server of {task.name} expects, "
            f"but is {output}."
        )
    if output.is_dir():
        raise ConfigError(f"{output} is a folder. Name a file as `output`.")
    if output.exists() and not overwrite:
        raise ConfigError(
            f"{output} exists. Choose another `output`, or replace it with overwrite=true."
        )


def _describe(task: Any, submission: Submission, num_answered: int, output: Path) -> str:
    counts = {
        "without an answer": submission.num_missing,
        "with an empty answer": submission.num_empty,
        "with several answers, of which the last counts": submission.num_repeated,
        "unreadable lines were left out": submission.num_unreadable,
    }
    found = [f"{number:,} {what}" for what, number in counts.items() if number]
    found.insert(0, f"{num_answered:,} answered")
    return (
        f"{output}: {len(submission.content):,} bytes, {task.name} {task.split}\n"
        f"  {submission.num_listed:,} questions listed, {', '.join(found)}\n"
        f"  to be uploaded at {task.upload.server}"
    )


main = partial(program.main, "submit", submit)

if __name__ == "__main__":
    main()
