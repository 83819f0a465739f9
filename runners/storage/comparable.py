"""Whether two stored tasks may be compared: the one rule of the gate and of the report.

Scores may be compared if the questions were put in the same words (before the conversation
template), about the same data, and judged by the same definition. Everything else may differ: that
is what a comparison is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from enum import Enum

from evals.ranking import is_ranked
from runners.storage.identity import UNKNOWN, describe_differences, differences
from runners.storage.plain_lines import NO_IMAGES
from runners.storage.stored import FinishedTask
from runners.storage.summary import SummaryFile


class Difference(str, Enum):
    """In what two runs differ that must not be compared."""

    PROMPTS = "questions"
    DATA = "data files"
    SCORER = "definition of the metric"
    SCORES = "scores"  # only one has any
    KEYS = "questions that were asked"
    IMAGES = "images of the questions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why two tasks must not be compared.

    Attributes:
        difference: In what they differ.
        message: What, and the way out.
    """

    difference: Difference
    message: str


def obstacles(
    before: FinishedTask, after: FinishedTask, names: tuple[str, str]
) -> tuple[Obstacle, ...]:
    """Returns all that keeps two tasks from being compared; nothing if they may be.

    Args:
        before: The one.
        after: The other.
        names: What the two are called in messages.
    """
    return tuple(_obstacles(before, after, names))


def _obstacles(
    before: FinishedTask, after: FinishedTask, names: tuple[str, str]
) -> Iterator[Obstacle]:
    first, second = before.summary, after.summary
    prompts = (first.hashes.prompts, second.hashes.prompts)
    if UNKNOWN not in prompts and prompts[0] != prompts[1]:
        yield Obstacle(
            difference=Difference.PROMPTS,
            message=_other_questions(before, after, names),
        )
    if bool(before.scores) != bool(after.scores):
        scorer = _named_scorer(first if before.scores else second)
        yield Obstacle(
            difference=Difference.SCORES,
            message=f"only the {names[not before.scores]} has scores ({scorer}). Score "
            "the other run in the same way with runners.score.",
        )
    elif _scorer(first) != _scorer(second):
        yield Obstacle(difference=Difference.SCORER, message=_other_scorers(first, second, names))
    elif None not in (codes := [s.hashes.included_code for s in (first, second)]) and (
        codes[0] != codes[1]
    ):
        yield Obstacle(
            difference=Difference.SCORER,
            message=f"the scores are by two versions of the included code ({first.definition} "
            "both times). Score both runs again: runners.score run=NAME include=DIR.",
        )
    if first.hashes.data != second.hashes.data:
        changed = differences(
            before.manifest.identity.get("data") or {}, after.manifest.identity.get("data") or {}
        )
        scored = first.other_data or second.other_data  # the one was scored again, with others
        files = ", ".join(changed or scored) or "the files"
        yield Obstacle(
            difference=Difference.DATA,
            message=f"the data differ ({files}; split {first.split} and {second.split}). Evaluate "
            "both runs on the same question and annotation files.",
        )
    elif before.scores and after.scores:
        yield from _unpaired(before, after)
    elif not before.scores and not after.scores:
        common = before.stored.image_hashes.keys() & after.stored.image_hashes.keys()
        yield from _other_images(before, after, common)


def _other_questions(before: FinishedTask, after: FinishedTask, names: tuple[str, str]) -> str:
    """In what questions of other hashes differ, as far as what is stored tells."""
    lines, others = before.stored.answers.lines, after.stored.answers.lines
    common = lines.keys() & others.keys()
    differing = any(lines[key]["prompt"] != others[key]["prompt"] for key in common)
    first, second = (task.manifest.environment.get("task") for task in (before, after))
    options = {}
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        options = differences(first, second, f"tasks.{before.summary.task}.")
    places = (f"in the {names[0]}", f"in the {names[1]}")
    said = f" ({describe_differences(options, places)})" if options else ""
    if differing or not common or any(name.endswith(".prompt_suffix") for name in options):
        return (
            f"the questions were put in other words{said}. Evaluate both runs with the same "
            "prompts, such as `prompt_suffix` of the task."
        )
    return (
        f"the words of the {len(common):,} questions that both answered are the same, but images "
        f"have other names, or the split has other questions beside them{said}. Evaluate both runs "
        "on the same question files."
    )


def _other_scorers(first: SummaryFile, second: SummaryFile, names: tuple[str, str]) -> str:
    """In what two ways of scoring differ: the definition, the judge, or how that was asked."""
    scorers = _named_scorer(first), _named_scorer(second)
    if first.judge and second.judge and scorers[0] == scorers[1]:
        unlike = differences(asdict(first.judge), asdict(second.judge), "judge.")
        said = "; ".join(
            f"`{name}` is {was!r} in the {names[0]} and {now!r} in the {names[1]}"
            for name, (was, now) in unlike.items()
            if name != "judge.replies_sha256"
        )
        return (
            f"the judge was asked in another way ({said}). Score one of the runs again as the "
            "other: runners.score run=NAME judge=openai judge.num_runs=N judge.base_url=URL."
        )
    remedy = "Score one of the runs again with runners.score."
    if is_ranked(first.definition) != is_ranked(second.definition):
        remedy = "Ask both with the same `answer` of the task."
    return f"the scores are by other definitions ({' and '.join(scorers)}). {remedy}"


def _unpaired(before: FinishedTask, after: FinishedTask) -> Iterator[Obstacle]:
    common = before.scores.keys() & after.scores.keys()
    if not common:
        yield Obstacle(difference=Difference.KEYS, message="the runs have no question in common.")
    elif any(before.scores[key].cluster != after.scores[key].cluster for key in common):
        yield Obstacle(
            difference=Difference.IMAGES,
            message="the same questions are about other images in the one run than in the other.",
        )
    else:
        yield from _other_images(before, after, common)


def _other_images(
    before: FinishedTask, after: FinishedTask, common: AbstractSet[str]
) -> Iterator[Obstacle]:
    if others := _with_other_images(before, after, common):
        yield Obstacle(
            difference=Difference.IMAGES,
            message=f"the images were others: {len(others):,} of the {len(common):,} questions "
            f"that both runs were asked, such as {min(others)!r}, have other pixels in the one "
            f"than in the other{_named_decoders(before, after)}. Evaluate both on the same image "
            "files.",
        )


def num_without_known_images(task: FinishedTask, keys: AbstractSet[str]) -> int:
    """Returns of how many questions it is not known which images they were asked about."""
    return len(keys - task.stored.image_hashes.keys())


def _with_other_images(
    before: FinishedTask, after: FinishedTask, keys: AbstractSet[str]
) -> list[str]:
    """The questions that the runs were asked about other images, as far as both know theirs."""
    first, second = before.stored.image_hashes, after.stored.image_hashes
    known = [key for key in keys & first.keys() & second.keys() if first[key] != second[key]]
    return [key for key in known if NO_IMAGES not in (first[key], second[key])]


def _named_decoders(*tasks: FinishedTask) -> str:
    """What read the images, where two versions of it may make other pixels of one file."""
    stored = (task.manifest.environment.get("versions") for task in tasks)
    named = [str(each.get("pillow")) for each in stored if isinstance(each, Mapping)]
    return f" (read by Pillow {' and '.join(named)})" if len(set(named)) > 1 else ""


def _scorer(summary: SummaryFile) -> object:
    """What decides a score. Replies of a judge are no part of it: they differ as answers do."""
    if not summary.judge:
        return summary.hashes.scorer
    return summary.definition, replace(summary.judge, replies_sha256=())


def _named_scorer(summary: SummaryFile) -> str:
    by = f" by {summary.judge.model}" if summary.judge else ""
    return summary.definition + by
