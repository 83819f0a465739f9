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

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import break_down_all, mean, mean_score, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import find_all, find_optional, require_id
from evals.reading.gqa import (
    GQAEvidence,
    GQAQuestion,
    parse_gqa_rows,
    read_gqa_evidence,
    read_gqa_questions,
)
from evals.reading.hub import HubTable, check_source
from evals.reading.images import ImageSource, image_in
from evals.reading.questions import SHORT_ANSWER_SUFFIX, Question, read_questions, replace_suffix
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Scale, Score, Unit
from evals.scorers.distribution import chi_square_distance
from evals.scorers.exact import convert_gqa, score_exact

ORIGIN = "https://cs.stanford.edu/people/dorarad/gqa/download.html (questions1.2.zip)"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
_HUB_REPO = "lmms-lab/GQA"
_FIELDS = ("structural", "semantic", "steps", "words")
_EVIDENCE = ("choices", "sceneGraphs", "attentions")


class GQA:
    """GQA on one split.

    Args:
        data_dir: The folder with the benchmark's files, the parent of `data`.
        split: `testdev_balanced`, `val`, `demo`, or another one by the name of its question file.
        prompt_suffix: What follows the question in the prompt.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such source.
    """

    name = "gqa"
    definition = "gqa_official/1"
    primary_metric = "accuracy"
    primary_is_mean = True
    has_annotations = True
    grouped_metrics = frozenset(["consistency"])
    releases: Mapping[str, Release] = {
        "testdev_balanced": Release(
            num_questions=12_578,
            num_images=398,
            files={
                "data/testdev_balanced_questions.json": ORIGIN,
                "llava_gqa_testdev_balanced.jsonl": LLAVA_ORIGIN,
                "data/images": ORIGIN,
            },
        )
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "testdev_balanced",
        prompt_suffix: str = SHORT_ANSWER_SUFFIX,
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.split = split
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self._title = f"{self.name} {split}"
        stem = "val_all" if split == "val" else split
        self._question_path = self.data_dir / "data" / f"{stem}_questions.json"
        self._llava_path = self.data_dir / f"llava_gqa_{split}.jsonl"
        self._hub: HubTable | None = None
        self._hub_images: HubTable | None = None
        if source == "hub":
            part = split.split("_", maxsplit=1)[0]
            config, images = f"{split}_instructions", f"{split}_images"
            self._hub = HubTable(_HUB_REPO, config, part, self.data_dir)
            self._hub_images = HubTable(_HUB_REPO, images, part, self.data_dir)

    def data_files(self) -> list[Path]:
        """The question file and those of the optional files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        paths = [self._llava_path, self._question_path]
        return find_all([*paths, *map(self._evidence_path, _EVIDENCE)])

    def samples(self) -> list[Sample]:
        """The balanced questions and those that they entail, in the order of the official file.

        With LLaVA's question file they are the questions of that file.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        prompts = self._prompts()
        return [
            self._sample(question, prompts[key])
            for key, question in self._questions.items()
            if key in prompts
        ]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins, foreign ids are ignored.

        Raises:
            DataError: all ids are foreign, or a file is missing or malformed.
        """
        ids = {key: key for key in self._questions}
        return match_by_id(answers, ids, task=self._title, foreign_is_error=False)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a balanced question, in the order of the official file.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is not of the split.
        """
        questions = self._questions
        evidence = read_gqa_evidence(*map(self._evidence_path, _EVIDENCE))
        check_keys(predictions, questions, self._title)
        correct = {
            key: score_exact(convert_gqa(prediction.text), questions[key].target)
            for key, prediction in predictions.items()
        }
        return [
            _score_question(
                question,
                predictions.get(question.key),
                _consistency(question, questions, correct),
                evidence,
            )
            for question in questions.values()
            if question.is_balanced
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """GQA's seven figures and the accuracy by type, steps and length.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        opened = [score for score in scores if score.groups["structural"] == "query"]
        binary = [score for score in scores if score.groups["structural"] != "query"]
        metrics = {
            "accuracy": mean_score(scores),
            "binary": mean_score(binary),
            "open": mean_score(opened),
            "consistency": _mean_consistency(scores),
            "validity": _mean_detail(scores, "valid"),
            "plausibility": _mean_detail(scores, "plausible"),
            "grounding": _mean_detail(scores, "grounding"),
            "distribution": chi_square_distance(
                (score.details["global_group"], score.details["target"], score.answer)
                for score in scores
                if score.details["global_group"] is not None
            ),
        }
        return Aggregate(
            metrics=metrics,
            breakdowns=break_down_all(scores, _FIELDS, "accuracy"),
            scales={"distribution": Scale(unit=Unit.NUMBER, largest=None)},
        )

    def _evidence_path(self, kind: str) -> Path:
        stem = self.split.removesuffix("_balanced").removesuffix("_all")
        return self.data_dir / "data" / f"{stem}_{kind}.json"

    @cached_property
    def _questions(self) -> dict[str, GQAQuestion]:
        if self._hub is not None:
            return parse_gqa_rows(self._hub.rows)
        return read_gqa_questions(self._question_path, ORIGIN)

    @cached_property
    def _image_rows(self) -> dict[str, int]:
        """The row of every image of the mirror."""
        rows = self._hub_images.rows if self._hub_images is not None else []
        return {
            f"{require_id(row, 'id', place)}.jpg": number
            for number, (place, row) in enumerate(rows)
        }

    def _image(self, name: str) -> ImageSource:
        if self._hub_images is not None and name in self._image_rows:
            return self._hub_images.image(self._image_rows[name], name)
        return image_in(self.data_dir / "data" / "images", name)

    def _prompts(self) -> dict[str, str]:
        """The prompt of every question that is to be asked."""
        questions = self._questions
        if self._hub is None and find_optional(self._llava_path):
            lines = {line.key: line for line in read_questions(self._llava_path)}
            self._check_lines(lines)
            return {
                key: replace_suffix(line, SHORT_ANSWER_SUFFIX, self.prompt_suffix)
                for key, line in lines.items()
            }
        balanced = [question for question in questions.values() if question.is_balanced]
        asked = {question.key for question in balanced}
        asked.update(key for question in balanced for key in question.entailed if key in questions)
        return {key: questions[key].question + self.prompt_suffix for key in asked}

    def _check_lines(self, lines: Mapping[str, Question]) -> None:
        foreign = [line for key, line in lines.items() if key not in self._questions]
        if foreign:
            raise DataError(
                f"{foreign[0].where}: the question id {foreign[0].key!r} is not in "
                f"{self._question_path}. Both files must be of one split and release."
            )
        balanced = [key for key, question in self._questions.items() if question.is_balanced]
        missing = [key for key in balanced if key not in lines]
        if missing:
            raise DataError(
                f"{self._llava_path} lacks {len(missing):,} balanced questions of "
                f"{self._question_path} (for example {missing[0]}). Both files must be of one "
                "split and release."
            )

    def _sample(self, question: GQAQuestion, prompt: str) -> Sample:
        return Sample(
            key=question.key,
            question_id=question.key,
            text=prompt,
            prompt=prompt,
            images=(self._image(question.image_name),),
            target=question.target,
            cluster=question.image_name,
            groups=question.groups,
        )


def _score_question(
    question: GQAQuestion,
    prediction: Prediction | None,
    consistency: Mapping[str, Any],
    evidence: GQAEvidence,
) -> Score:
    answer = None if prediction is None else convert_gqa(prediction.text)
    return Score(
        key=question.key,
        question_id=question.key,
        cluster=question.image_name,
        value=0.0 if answer is None else score_exact(answer, question.target),
        answer=answer,
        answered=prediction is not None,
        groups=question.groups,
        details={
            "target": question.target,
            "global_group": question.global_group,
            "valid": evidence.is_choice(question, answer, "valid"),
            "plausible": evidence.is_choice(question, answer, "plausible"),
            "grounding": evidence.grounding(question),
            **consistency,
        },
    )


def _consistency(
    question: GQAQuestion, questions: Mapping[str, GQAQuestion], correct: Mapping[str, float]
) -> dict[str, float | bool | None]:
    """The share of right answers among entailed questions, where the question is right itself.

    It is not known if an entailed question is not in the file, or if it has no answer and is not
    balanced: a balanced one without an answer is wrong and counted as missing, others are not.
    """
    others = [key for key in question.entailed if key != question.key]
    if not correct.get(question.key) or not others:
        return {"consistency": None, "consistency_is_known": True}
    known = all(
        key in correct or (key in questions and questions[key].is_balanced) for key in others
    )
    value = mean(correct.get(key, 0.0) for key in others) if known else None
    return {"consistency": value, "consistency_is_known": known}


def _mean_consistency(scores: Sequence[Score]) -> float | None:
    if not all(score.details["consistency_is_known"] for score in scores):
        return None
    values = (score.details["consistency"] for score in scores)
    return mean(value for value in values if value is not None)


def _mean_detail(scores: Sequence[Score], name: str) -> float | None:
    """The mean of a detail, or None unless every score has it."""
    values = [score.details[name] for score in scores]
    return None if any(value is None for value in values) else mean(values)
