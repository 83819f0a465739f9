"""GQA: compositional questions about scenes (Hudson and Manning, arXiv:1902.09506).

Files, in `data_dir`: `data/<split>_questions.json` (`data/val_all_questions.json` for val), images
in `data/images/<imageId>.jpg`; LLaVA's `llava_gqa_<split>.jsonl` is read for the prompts where it
is there. Some figures need more: validity and plausibility `data/<split>_choices.json`, grounding
`data/<split>_sceneGraphs.json` and `data/<split>_attentions.json` (the model's own attention, 7x7).
Mirror: `lmms-lab/GQA`.

One question, by its id: `{"02930152": {"question": "Is the sky dark?", "answer": "yes", "imageId":
"2354786", "isBalanced": true, "groups": {"global": null, "local": "06-sky_dark"}, "entailed":
["02930160"], "types": {"structural": "verify", "semantic": "global", "detailed": "verifyGlobal"},
"semantic": [{"operation": "select", "dependencies": [], "argument": "scene"}, ...],
"annotations": {"question": {"2": "2486325"}, "answer": {}, "fullAnswer": {}}}}`; the prompt: the
question and a line that asks for a single word or phrase.

Metric: exact match of the lower-cased answer without trailing periods, over balanced questions.
Official code: the Stanford `eval.py` as in junayednaushad/Relation-Network-VQA @ 64f6c6a0, with
LLaVA's conversion (haotian-liu/LLaVA @ c121f043, `convert_gqa_for_eval.py`).

Known deviations: a missing answer scores 0 and is counted, where the official script stops.
Figures whose files are missing are None, where LLaVA's patched script prints 0. Consistency is
None where an entailed question is not in the file, as in testdev_balanced, or has no answer and
is not among the scored ones.

Published: LLaVA-1.5-7B 62.0, 13B 63.3 (testdev_balanced accuracy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path

from evals.benchmark import Benchmark, Predictions, Questions, rebuildable
from evals.errors import DataError
from evals.figures.metrics import break_down_all, mean, mean_of_all, mean_score
from evals.reading.files import find_all, find_optional
from evals.reading.gqa import (
    GQAEvidence,
    mirror_images,
    read_gqa_evidence,
    read_gqa_mirror,
    read_gqa_questions,
)
from evals.reading.hub import HubLocation, HubTable, find_mirror
from evals.reading.images import ImageSource, image_in
from evals.reading.questions import (
    SHORT_ANSWER_SUFFIX,
    Question,
    read_questions,
    without_prompts,
)
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.records import Aggregate, Sample, Scale, Score, Unit, score_of
from evals.scorers.exact import convert_gqa, score_exact
from evals.scorers.gqa import chi_square_distance

_DOWNLOADS = "https://cs.stanford.edu/people/dorarad/gqa/download.html"
ORIGIN = f"{_DOWNLOADS} (questions1.2.zip)"
IMAGES_ORIGIN = f"{_DOWNLOADS} (images.zip)"
RELEASE = Release(
    num_questions=12_578,
    num_images=398,
    files={
        "data/testdev_balanced_questions.json": ORIGIN,
        "llava_gqa_testdev_balanced.jsonl": LLAVA_ORIGIN,
        "data/images": IMAGES_ORIGIN,
    },
)
_HUB_SPLITS = ("train", "val", "testdev", "test", "challenge")
_FIELDS = ("structural", "semantic", "steps", "words")
_EVIDENCE = ("choices", "sceneGraphs", "attentions")


@rebuildable
def GQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    split: str = "testdev_balanced",
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
    source: str = "files",
    max_new_tokens: int = 128,
) -> Benchmark:
    """GQA on `testdev_balanced`, `val`, `demo`, or another split by its question file's name."""
    folder = Path(data_dir)
    stem = "val_all" if split == "val" else split
    path = folder / "data" / f"{stem}_questions.json"
    prompts = folder / f"llava_gqa_{split}.jsonl"
    part = split.removesuffix("_balanced").removesuffix("_all")
    evidence = [folder / "data" / f"{part}_{kind}.json" for kind in _EVIDENCE]
    hub_split = split.split("_", maxsplit=1)[0]
    tables = [
        HubLocation(repo="lmms-lab/GQA", config=f"{stem}_{kind}", split=hub_split)
        for kind in ("instructions", "images")
    ]
    mirror, images = (find_mirror("gqa", source, table, folder) for table in tables)
    read = partial(read_gqa_questions, path, ORIGIN)
    find_image: Callable[[str], ImageSource] = partial(image_in, folder / "data" / "images")
    if mirror is not None and images is not None:
        read, find_image = partial(read_gqa_mirror, mirror), mirror_images(images, find_image)
    return Benchmark(
        name="gqa",
        split=split,
        hub=tables[0] if hub_split in _HUB_SPLITS else None,
        definition="gqa_official/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=partial(_data_files, mirror, images, (prompts, path, *evidence)),
        read=read,
        ask=partial(
            _ask, prompts=None if mirror else prompts, official=path, find_image=find_image
        ),
        judge=partial(_judge, cache(lambda: read_gqa_evidence(*evidence))),
        figures=_figures,
        releases={"testdev_balanced": RELEASE},
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
        foreign_is_error=False,
        grouped_metrics=frozenset(["consistency"]),
    )


def _data_files(
    mirror: HubTable | None, images: HubTable | None, files: Sequence[Path]
) -> list[Path]:
    """Those at the paths, or the table with the questions and, if it lies here, the images."""
    if mirror is None:
        return find_all(files)
    here = images.data_files() if images is not None and images.location.parquet else []
    return mirror.data_files() + here


def _ask(
    questions: Questions,
    *,
    prompts: Path | None,
    official: Path,
    find_image: Callable[[str], ImageSource],
) -> list[Sample]:
    """The questions of LLaVA's file or, without it, the balanced ones and those they entail."""
    if prompts is not None and find_optional(prompts):
        lines = {line.key: line for line in read_questions(prompts)}
        _check_lines(lines, questions, prompts, official)
        asked = [
            replace(question, text=lines[key].text, prompt=lines[key].text)
            for key, question in questions.items()
            if key in lines
        ]
    else:
        balanced = [q for q in questions.values() if q.details.is_balanced]
        keys = {key for q in balanced for key in (q.key, *q.details.entailed)}
        asked = [question for key, question in questions.items() if key in keys]
    return [replace(question, images=(find_image(question.cluster),)) for question in asked]


def _check_lines(
    lines: Mapping[str, Question], questions: Questions, prompts: Path, official: Path
) -> None:
    foreign = [line for key, line in lines.items() if key not in questions]
    if foreign:
        raise DataError(
            f"{foreign[0].where}: the question id {foreign[0].key!r} is not in {official}. Both "
            f"files must be of one split and release. {without_prompts(prompts)}"
        )
    missing = [key for key, q in questions.items() if q.details.is_balanced and key not in lines]
    if missing:
        raise DataError(
            f"{prompts} lacks {len(missing):,} balanced questions of {official} (for example "
            f"{missing[0]}). Both files must be of one split and release. "
            f"{without_prompts(prompts)}"
        )


def _judge(
    read_evidence: Callable[[], GQAEvidence], questions: Questions, predictions: Predictions
) -> list[Score]:
    """One score a balanced question; answers to the others decide about consistency."""
    evidence = read_evidence()
    correct = {
        key: score_exact(convert_gqa(prediction.text), questions[key].target)
        for key, prediction in predictions.items()
    }
    scores = []
    for key, question in questions.items():
        if not question.details.is_balanced:
            continue
        answer = convert_gqa(predictions[key].text) if key in predictions else None
        details = {
            "target": question.target,
            "global_group": question.details.global_group,
            "valid": evidence.is_choice(question, answer, "valid"),
            "plausible": evidence.is_choice(question, answer, "plausible"),
            "grounding": evidence.grounding(question),
            "consistency": _consistency(question, questions, correct),
        }
        judgment = None if answer is None else (correct[key], answer)
        scores.append(score_of(question, judgment, details))
    return scores


def _figures(scores: Sequence[Score]) -> Aggregate:
    """GQA's seven figures and the accuracy by type, steps and length."""
    opened = [score for score in scores if score.groups["structural"] == "query"]
    binary = [score for score in scores if score.groups["structural"] != "query"]
    metrics = {
        "accuracy": mean_score(scores),
        "binary": mean_score(binary),
        "open": mean_score(opened),
        "consistency": mean_of_all(chain(*(score.details["consistency"] for score in scores))),
        "validity": mean_of_all(score.details["valid"] for score in scores),
        "plausibility": mean_of_all(score.details["plausible"] for score in scores),
        "grounding": mean_of_all(score.details["grounding"] for score in scores),
        "distribution": chi_square_distance(
            (score.details["global_group"], score.details["target"], score.answer)
            for score in scores
            if score.details["global_group"] is not None
        ),
    }
    return Aggregate(
        metrics=metrics,
        breakdowns=break_down_all(scores, _FIELDS, "accuracy"),
        scales={
            "distribution": Scale(unit=Unit.NUMBER, largest=None),
            "grounding": Scale(largest=None),  # overlapping objects count as often
        },
    )


def _consistency(
    question: Sample, questions: Questions, correct: Mapping[str, float]
) -> list[float | None]:
    """The share of right answers among entailed questions, where the question is right itself.

    It is None if an entailed question is not in the file, or if it has no answer and is not
    balanced: a balanced one without an answer is wrong and counted as missing, others are not.
    """
    others = [key for key in question.details.entailed if key != question.key]
    if not correct.get(question.key) or not others:
        return []
    known = all(
        key in correct or (key in questions and questions[key].details.is_balanced)
        for key in others
    )
    return [mean(correct.get(key, 0.0) for key in others) if known else None]
