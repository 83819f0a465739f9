"""`summary.json` and `scores.jsonl`: what the answers of a task came to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.summary import Summary
from evals.reading.files import read_jsonl, require
from evals.records import SHARE, Scale, Score, Unit
from runners.logs import public_address
from runners.storage.files import sha256_of_json, sha256_of_lines, write_json, write_jsonl
from runners.storage.typed import read_record

SUMMARY_FILE = "summary.json"
SCORES_FILE = "scores.jsonl"

_POINTS = {
    "mme": ("score", "perception", "cognition"),
    "llavabench": ("reference_mean", "model_mean"),
}
_KNOWN_SCALES = {
    **{
        (task, metric): Scale(unit=Unit.POINTS, largest=None)
        for task, metrics in _POINTS.items()
        for metric in metrics
    },
    ("llavabench", "score"): Scale(largest=None),
    ("gqa", "distribution"): Scale(unit=Unit.NUMBER, largest=None),
}
"""The scales of figures that do not say it: published ones, and summaries of earlier versions."""

_FIGURES = (
    *("task", "split", "primary_metric", "scales"),
    *("metrics", "metrics_answered", "breakdowns", "interval", "num_failed", "num_unparsed"),
    *("interval_method", "num_questions", "num_answered", "coverage", "limited", "limit"),
)
"""What `summary.json` says of the score: nobody but the scorer has anything to write there."""


def known_scale(task: str, metric: str) -> Scale:
    """Returns the scale of a benchmark's figure where no summary says it.

    >>> known_scale("mme", "perception").in_print(1500.0)
    1500.0
    """
    return _KNOWN_SCALES.get((task, metric), SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """What figures were made of; None for what is not known.

    Attributes:
        answers: Of `predictions.jsonl`.
        prompts: Of all question texts of the split; `unknown` for answers from elsewhere.
        data: Of the question and annotation files.
        scorer: Of the metric's definition, the judge's replies included.
        scores: Of `scores.jsonl`, by which an edited score is known.
        code: Of the source files that score, by which two versions of one definition are known.
        figures: Of what `summary.json` says of the score, by which an edited figure is known.
    """

    answers: str | None = None
    prompts: str | None = None
    data: str | None = None
    scorer: str | None = None
    scores: str | None = None
    code: str | None = None
    figures: str | None = None

    @property
    def included_code(self) -> str | None:
        """The part of `code` that is of an included benchmark; empty for others."""
        return None if self.code is None else self.code.partition("-")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of the answers of a task beside their scores.

    Attributes:
        limited: Whether only a part of the split was asked.
        limit: The option that chose the part; None for the whole split, or a shard of it.
        batch_check: How many answers were computed again, alone, and how many of them changed;
            None for answers from elsewhere.
        timing: What is told about the time.
        imported: The foreign file that the answers are from; None for a run.
    """

    limited: bool = False
    limit: int | None = None
    batch_check: Mapping[str, int] | None = None
    timing: Mapping[str, Any] = field(default_factory=dict)
    imported: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRecord:
    """Which judge model graded, and how it was asked.

    Attributes:
        model: Its name.
        base_url: Its endpoint, without user and password; empty where its replies came as files.
        num_runs: How often it was asked about each answer; 0 where its replies came as files.
        prompt_sha256: Hash of what it is told to do.
        replies_sha256: Hashes of the files with its replies, where they came as files.
    """

    model: str
    base_url: str = ""
    num_runs: int = 0
    prompt_sha256: str = ""
    replies_sha256: Sequence[str] = ()

    @classmethod
    def from_json(cls, content: object) -> JudgeRecord:
        """Returns the judge in a JSON value.

        Raises:
            ValueError: it names none.
        """
        record = read_record(cls, content, "judge")
        if not record.model:
            raise ValueError("`judge` names no model")
        return replace(record, base_url=public_address(record.base_url))

    def to_json(self) -> dict[str, object]:
        """Returns the object that files hold; its hash is part of a scorer's."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryFile(Summary):
    """What `summary.json` holds: the figures, and what they are over and made of.

    Attributes:
        origin: What is known of the answers beside their scores.
        hashes: What the figures were made of.
        is_judged: Whether a judge scores the task, be it there or missing.
        judge: The judge whose replies were taken; None if there are none.
        scored_as: The task by which it was scored, as `_target_` plus options; None where that is
            the one that the manifest holds.
        other_data: The data files that it was scored with, but not asked with.
        is_edited: Whether the file that it was read from has other figures than were written.
    """

    origin: Origin = field(default_factory=Origin)
    hashes: Hashes = field(default_factory=Hashes)
    is_judged: bool = False
    judge: JudgeRecord | None = None
    scored_as: Mapping[str, Any] | None = None
    other_data: Sequence[str] = ()
    is_edited: bool = False

    @classmethod
    def of(
        cls,
        figures: Summary,
        origin: Origin,
        hashes: Hashes,
        *,
        is_judged: bool = False,
        judge: JudgeRecord | None = None,
    ) -> SummaryFile:
        """Returns what `summary.json` holds of figures and answers."""
        parts = {part.name: getattr(figures, part.name) for part in fields(Summary)}
        return cls(**parts, origin=origin, hashes=hashes, is_judged=is_judged, judge=judge)

    @property
    def on_other_data(self) -> str:
        """What is to be said where the data have changed since the questions were asked, or empty.

        The figure is none to be held against those on the data of before.
        """
        files = ", ".join(self.other_data)
        return f"scored with data other than it was asked with ({files})" if files else ""

    @property
    def is_complete(self) -> bool:
        """Whether every question that was asked is answered, and judged where a judge scores it."""
        waits = self.is_judged and self.judge is None
        return self.num_answered == self.num_questions and not waits

    def to_json(self) -> dict[str, Any]:
        """Returns the object that `summary.json` holds."""
        content = asdict(self)
        content |= content.pop("origin")
        del content["is_edited"]
        for name in ("scores", "code", "figures"):
            if content["hashes"][name] is None:
                del content["hashes"][name]
        if not content.pop("is_judged"):
            del content["judge"]
        elif self.judge is not None:
            content["judge"] = self.judge.to_json()
        optional = ("imported", "batch_check", "scored_as")
        left_out = {name for name in optional if content[name] is None}
        if not content["other_data"]:
            left_out.add("other_data")
        return {name: value for name, value in content.items() if name not in left_out}

    @classmethod
    def from_json(cls, content: object) -> SummaryFile:
        """Returns the summary in a JSON value, also one that an earlier version wrote.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        judge = content.get("judge") or None
        summary = read_record(
            cls,
            {**content, "origin": content, "is_judged": "judge" in content, "judge": judge},
        )
        lacking = [name for name in ("metrics", "interval", "num_failed") if name not in content]
        if lacking:
            raise ValueError(f"`{lacking[0]}` is missing")
        limit = summary.origin.limit
        if min(summary.num_questions, summary.num_answered) < 0 or (limit or 1) < 0:
            raise ValueError("`num_questions`, `num_answered` and `limit` must count questions")
        if judge is not None:
            summary = replace(summary, judge=JudgeRecord.from_json(judge))
        if "scales" not in content:
            return replace(summary, scales=_scales_before(summary.task))
        for metric, scale in content["scales"].items():
            if not {"unit", "largest"} <= scale.keys():
                raise ValueError(f"`scales.{metric}` is no scale")
        return summary


def _scales_before(task: str) -> dict[str, Scale]:
    """The scales of a benchmark whose summary is of a version that did not write them."""
    return {metric: scale for (of, metric), scale in _KNOWN_SCALES.items() if of == task}


def read_summary(folder: Path) -> SummaryFile | None:
    """Returns the summary in a task's folder, None if there is none.

    Raises:
        DataError: what lies there is no summary.
    """
    path = folder / SUMMARY_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        summary = SummaryFile.from_json(content)
        is_edited = summary.hashes.figures not in (None, _hash_figures(content))
        return replace(summary, is_edited=is_edited)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no summary: {error}. Repeat the command that made the run, which writes it "
            "anew."
        ) from error


def write_results(folder: Path, summary: SummaryFile, scores: Sequence[Score]) -> SummaryFile:
    """Writes `scores.jsonl`, if there are scores, and then `summary.json`, with the hashes of both.

    Returns:
        The summary as it was written.
    """
    if scores:
        write_jsonl(folder / SCORES_FILE, (score.to_line() for score in scores))
    else:
        (folder / SCORES_FILE).unlink(missing_ok=True)
    summary = with_hashes(summary, scores)
    write_json(folder / SUMMARY_FILE, summary.to_json())
    return summary


def _hash_figures(content: Mapping[str, Any]) -> str:
    return sha256_of_json({name: content[name] for name in _FIGURES if name in content})


def with_hashes(summary: SummaryFile, scores: Sequence[Score]) -> SummaryFile:
    """Returns a summary with the hashes of its figures and of what `scores.jsonl` holds."""
    digest = sha256_of_lines(score.to_line() for score in scores) if scores else None
    figures = _hash_figures(summary.to_json())
    hashes = replace(summary.hashes, scores=digest, figures=figures)
    return replace(summary, hashes=hashes, is_edited=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """The judgment of one question, as `scores.jsonl` holds it.

    Attributes:
        question_id: The benchmark's own id.
        value: 0..1.
        cluster: Questions with equal cluster are not independent.
        answer: The answer as compared; None where none was given or none could be read.
        groups: The breakdown fields.
    """

    question_id: str | int
    value: float
    cluster: str
    answer: str | None
    groups: Mapping[str, str | None]


_SCORE_FIELDS = frozenset({"question_id", "key", "cluster", "score", "answer"})


def read_scores(folder: Path) -> dict[str, StoredScore]:
    """Returns the scores in a task's folder by key.

    Raises:
        DataError: the file is missing, or a line of it is no score.
    """
    path = folder / SCORES_FILE
    scores: dict[str, StoredScore] = {}
    for number, record in read_jsonl(path):
        where = f"{path}:{number}"
        key = require(record, "key", str, where)
        value = require(record, "score", (int, float), where)
        if key in scores:
            raise DataError(f"{where} repeats the key {key!r}. Score the run again.")
        if not 0 <= value <= 1:
            raise DataError(f"{where} must have a `score` in 0..1, but has {value}.")
        groups = {name: record[name] for name in record if name not in _SCORE_FIELDS}
        if nested := [name for name in groups if isinstance(groups[name], (dict, list))]:
            raise DataError(f"{where} must have a plain `{nested[0]}`. Score the run again.")
        scores[key] = StoredScore(
            question_id=record.get("question_id", key),
            value=value,
            cluster=require(record, "cluster", str, where),
            answer=record.get("answer"),
            groups=groups,
        )
    return scores
