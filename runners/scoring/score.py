"""Answers become scores, and scores a summary."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.benchmark import GENERATE, Benchmark
from evals.errors import DataError, MissingFileError
from evals.figures.summary import Summary, summarize, summarize_unscored
from evals.records import Cause, Failure, Sample, Score
from runners.environment import source_hash
from runners.errors import ConfigError
from runners.options.include import hash_included
from runners.options.score import JudgeOptions
from runners.options.task_spec import TaskSpec
from runners.scoring.judge import Judgment, judge_answers
from runners.storage.answer_lines import is_failure, read_failure, read_prediction
from runners.storage.asked import asked_samples
from runners.storage.files import hash_data_files, sha256_of_file, sha256_of_json
from runners.storage.identity import UNKNOWN, require_same_questions
from runners.storage.importing import Import
from runners.storage.stored import StoredTask
from runners.storage.summary import (
    Hashes,
    Origin,
    SummaryFile,
    read_summary,
    with_hashes,
    write_results,
)

logger = logging.getLogger(__name__)

_SHOWN = 3
_SCORING = "evals"
"""The package whose code decides what an answer is worth."""


def score_lines(
    task: Benchmark,
    lines: Iterable[Mapping[str, Any]],
    num_questions: int,
    *,
    only: Collection[str] | None = None,
) -> tuple[Summary, list[Score]]:
    """Returns summary and scores of the stored answers of a task.

    Args:
        task: The benchmark.
        lines: Lines of `predictions.jsonl`, one a question.
        num_questions: How many questions were asked.
        only: The keys of these questions if they are not all of the split.

    Raises:
        DataError: none of the questions counts for the score, or the data are malformed.
    """
    answered, failures = {}, {}
    for line in lines:
        if is_failure(line):
            failure = read_failure(line)
            failures[failure.key] = failure
        else:
            prediction = read_prediction(line)
            answered[prediction.key] = prediction
    if not task.has_annotations:
        return summarize_unscored(task, num_questions, len(answered), failures), []
    scores = [score for score in task.score(answered) if only is None or score.key in only]
    if not scores:
        raise DataError(
            f"None of the {num_questions:,} questions that {task.name} was asked counts for its "
            "score. Raise `limit`."
        )
    return summarize(task, scores, failures, limit_cuts_groups=only is not None), scores


def score_asked(
    task: Benchmark,
    lines: Mapping[str, Mapping[str, Any]],
    failed: Collection[str],
    asked: Collection[Sample],
    origin: Origin,
    hashes: Hashes,
) -> tuple[SummaryFile, list[Score]]:
    """Returns what `summary.json` holds of questions that were asked here, and the scores.

    Args:
        task: The benchmark.
        lines: Lines of `predictions.jsonl`, by the keys of their questions.
        failed: The keys of those that record a failure.
        asked: The questions.
        origin: What is known of the answers beside their scores.
        hashes: Of answers, prompts and data.
    """
    scores: list[Score] = []
    if task.has_annotations:
        only = {sample.key for sample in asked} if origin.limited else None
        figures, scores = score_lines(task, lines.values(), len(asked), only=only)
    else:  # what was answered is counted, not read
        failures = {key: read_failure(lines[key]) for key in failed}
        figures = summarize_unscored(task, len(asked), len(lines) - len(failures), failures)
    scorer = sha256_of_json(task.definition)
    hashes = replace(hashes, scorer=scorer, code=_code(task))
    return with_hashes(SummaryFile.of(figures, origin, hashes), scores), scores


def score_stored(
    spec: TaskSpec,
    stored: StoredTask,
    output: Path,
    judge: JudgeOptions,
    *,
    origin: Origin,
    num_questions: int,
    prompts_hash: str | None,
) -> SummaryFile:
    """Scores the stored answers of a task and returns the summary, which is also written.

    Args:
        spec: The task.
        stored: Its answers.
        output: The folder that scores and summary are written to.
        judge: Which judge is asked.
        origin: What is known of the answers beside their scores.
        num_questions: How many questions were asked.
        prompts_hash: Of all question texts.

    Raises:
        ConfigError: there are no answers, other questions were asked than there are now, answers
            were ranked and are to be scored as generated or the other way round, there is no key or
            price for the judge, or its replies contradict each other.
        DataError: the data are missing or malformed.
        JudgeError: the judge gave no reply, or the budget is spent.
    """
    _require_same_answer(spec.build(), stored)
    answers, path = stored.require_answers(), stored.answers_path
    if path in stored.changed_files:
        logger.warning("%s has changed since it was scored; what it holds now is scored", path)
    if answers.num_bad:
        logger.error(
            "%s: lines that are not as they were written, and count as missing: %d. The command "
            "that answered the questions asks them again; answers from elsewhere become a run of "
            "their own with predictions=FILE run=NAME.",
            path,
            answers.num_bad,
        )
    given = [read_prediction(line) for line in answers.lines.values() if not is_failure(line)]
    judgment = judge_answers(
        spec.build(), {answer.key: answer for answer in given}, stored.folder, judge
    )
    only = _asked_keys(judgment.task, stored, origin, prompts_hash)
    scored = score_lines(judgment.task, answers.lines.values(), num_questions, only=only)
    asked = None if stored.manifest is None else stored.manifest.environment.get("task")
    summary = _summary(scored, judgment, origin, path, prompts_hash)
    _require_judged(judgment, judge, output, summary)
    summary = replace(summary, other_data=_other_data(judgment.task, stored))
    if asked != spec.to_json():
        summary = replace(summary, scored_as=spec.to_json())
    if summary.on_other_data:
        logger.warning(
            "%s is %s. The figure is marked, and is not compared with figures on the earlier data. "
            "For one that is, evaluate the model again on these data, under another run=NAME.",
            stored.folder,
            summary.on_other_data,
        )
    return write_results(output, summary, scored[1])


def _other_data(task: Benchmark, stored: StoredTask) -> tuple[str, ...]:
    """The data files whose content is none of those that the questions were asked with.

    Fewer files are no others: scoring needs less than asking does.
    """
    known = None if stored.manifest is None else stored.manifest.identity.get("data")
    if not isinstance(known, Mapping):
        return ()
    now = hash_data_files(task.data_files())
    return tuple(name for name, digest in now.items() if digest not in known.values())


def _require_same_answer(task: Benchmark, stored: StoredTask) -> None:
    """Checks that answers are scored as what they are; of those from elsewhere nobody knows."""
    manifest = stored.manifest
    if manifest is None or manifest.imported_sha256 is not None:
        return
    given = manifest.identity.get("answer", GENERATE)
    if given != task.answer:
        raise ConfigError(
            f"{stored.folder} was answered with tasks.{task.name}.answer={given}, but is to be "
            f"scored with {task.answer}. Leave that option out, or ask again with run=NAME."
        )


def _asked_keys(
    task: Benchmark, stored: StoredTask, origin: Origin, prompts_hash: str | None
) -> set[str] | None:
    """The keys of the questions that were asked; None for all of the split.

    They are chosen as the run chose them. The answers that have survived would not tell: a lost one
    counts as wrong.
    """
    try:
        samples = task.samples()
    except MissingFileError as error:
        if origin.limited or not task.has_annotations:
            raise
        logger.info("%s: it is not known what was asked: %s", task.name, error)
        return None
    require_same_questions(stored.folder, task, prompts_hash or UNKNOWN, samples)
    if not origin.limited:
        return None
    shard = None if stored.manifest is None else stored.manifest.shard
    return {sample.key for sample in asked_samples(samples, origin.limit, shard)}


def score_file(spec: TaskSpec, found: Import, output: Path, judge: JudgeOptions) -> SummaryFile:
    """Scores a foreign answer file and returns the summary, which is also written.

    Args:
        spec: The task.
        found: The answers.
        output: The folder that scores and summary are written to.
        judge: Which judge is asked.

    Raises:
        ConfigError: there is no key or price for the judge, or its replies contradict each other.
        DataError: the data are missing or malformed.
        JudgeError: the judge gave no reply, or the budget is spent.
    """
    judgment = judge_answers(spec.build(), found.predictions, output, judge)
    task = judgment.task
    scores: list[Score] = []
    if judgment.missing:
        number = len(task.samples())
        figures = summarize_unscored(task, number, len(found.predictions), found.failures)
    else:
        scores = task.score(found.predictions)
        figures = summarize(task, scores, found.failures)
    summary = _summary((figures, scores), judgment, Origin(), found.path, None)
    _require_judged(judgment, judge, output, summary)
    return write_results(output, replace(summary, scored_as=spec.to_json()), scores)


def _require_judged(
    judgment: Judgment, judge: JudgeOptions, output: Path, summary: SummaryFile
) -> None:
    """Checks that no judge's figures of the same answers are replaced by figures without a judge.

    Raises:
        ConfigError: they would be.
    """
    if judgment.record is not None or judgment.task.grading is None or judge.name != "none":
        return
    with suppress(DataError):  # what cannot be read is no figure
        stored = read_summary(output)
        if stored is None or stored.judge is None:
            return
        if stored.hashes.answers == summary.hashes.answers:
            raise ConfigError(
                f"{output} has the figures of the judge {stored.judge.model} for these answers, "
                "and figures without a judge would replace them. Repeat the options that had them "
                f"judged, judge=openai or tasks.{summary.task}.replies=FILE, or score them "
                "elsewhere with output=DIR."
            )
        logger.warning(
            "%s had the figures of the judge %s for other answers; those of these are without one",
            output,
            stored.judge.model,
        )


def _summary(
    scored: tuple[Summary, list[Score]],
    judgment: Judgment,
    origin: Origin,
    answers: Path,
    prompts_hash: str | None,
) -> SummaryFile:
    figures, scores = scored
    _tell(judgment, figures, [score.failure for score in scores if score.failure])
    _tell_missing(figures, scores)
    hashes = Hashes(
        answers=sha256_of_file(answers),
        prompts=prompts_hash,
        data=sha256_of_json(hash_data_files(judgment.task.data_files())),
        scorer=judgment.scorer_hash,
        code=_code(judgment.task),
    )
    return SummaryFile.of(
        figures, origin, hashes, is_judged=judgment.is_judged, judge=judgment.record
    )


def _code(task: Benchmark) -> str:
    """A hash of the code that scores, that of an included benchmark too."""
    return "-".join(filter(None, [source_hash(_SCORING), included_code(task)]))


def included_code(task: Benchmark) -> str:
    """Returns a hash of the code of an included benchmark; empty for another one."""
    return "" if task.recipe is None else hash_included(task.recipe.constructor)


def _tell(judgment: Judgment, summary: Summary, unjudged: Sequence[Failure]) -> None:
    """Says what the figures do not."""
    if unjudged:
        _tell_unjudged(judgment, summary, unjudged)
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
    elif not judgment.task.has_annotations:
        logger.info("%s %s", judgment.task.title, judgment.task.lack)


def _tell_missing(summary: Summary, scores: Sequence[Score]) -> None:
    """Names some of the questions that have no answer."""
    missing = [one.question_id for one in scores if not (one.answered or one.failure)]
    if missing:
        logger.warning(
            "%s: %d questions have no answer and score 0, such as %s",
            summary.task,
            len(missing),
            ", ".join(map(str, missing[:_SHOWN])),
        )


def _tell_unjudged(judgment: Judgment, summary: Summary, unjudged: Sequence[Failure]) -> None:
    """Says that answers have no judgment, why the first one has none, and what to do."""
    first = unjudged[0]
    record = judgment.record
    causes = {failure.cause for failure in unjudged}
    if record is None or not record.num_runs:
        remedies = ["Mend the file with the replies."]
    else:
        remedies = ["judge.retry_failed=true asks about them again."]
        if causes == {Cause.JUDGE_SILENT.value}:
            remedies = []
    if Cause.JUDGE_SILENT.value in causes:
        remedies.append("The same command asks again where the endpoint gave no reply.")
    logger.error(
        "%s: %d of %d answers are not judged, because a reply or review of the judge is "
        "missing or could not be read (question %s: %s). %s",
        summary.task,
        len(unjudged),
        summary.num_answered + len(unjudged),
        first.key,
        first.message,
        " ".join(remedies),
    )
