r"""MME: yes/no questions in pairs, on perception and cognition (Fu et al., arXiv:2306.13394).

Files, in `data_dir`: `MME_Benchmark_release_version/<category>/`, a text file of two lines an
image, flat or in `questions_answers_YN/` beside `images/`; LLaVA's `llava_mme.jsonl` gives prompts,
ids and order where it is there. Mirror: `lmms-lab/MME`.

One line: `Is there a train in the picture? Please answer yes or no.`, a tab, `Yes`; the id is
`<category>[/images]/<image file>`, shared by both questions of an image; the prompt: the question
without its request, and a line that asks for a single word or phrase.

Metric: a category's score is 100 times the share of right answers plus 100 times the share of
images with both answers right; perception and cognition are sums of ten and four categories.
Official code: `eval_tool` in BradyFU/Awesome-Multimodal-Large-Language-Models @ dd295090.

Known deviations: tabs and line breaks in answers, on which the official reader stops, are spaces.
A missing answer is wrong and counted. Pairs are formed by image, not by position.

Published: LLaVA-1.5-7B 1510.7, 13B 1531.3 (perception).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import group_by, require_scores
from evals.reading.answers import check_keys
from evals.reading.files import find_all, find_optional, require
from evals.reading.hub import HubTable, check_source
from evals.reading.images import ImageSource, image_in
from evals.reading.mme import (
    CATEGORIES,
    COGNITION,
    MAX_SCORE,
    PERCEPTION,
    ReleasedQuestion,
    bare_question,
    one_line,
    pair_figures,
    read_release,
    sum_scores,
)
from evals.reading.questions import (
    SHORT_ANSWER_SUFFIX,
    Question,
    read_question_lines,
    replace_suffix,
)
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Scale, Score, Unit
from evals.scorers.yes_no import parse_mme

_TOTALS = {"perception": PERCEPTION, "cognition": COGNITION}
_SCALES = {
    "score": Scale(unit=Unit.POINTS, largest=MAX_SCORE),
    **{
        name: Scale(unit=Unit.POINTS, largest=MAX_SCORE * len(categories))
        for name, categories in _TOTALS.items()
    },
}

ORIGIN = (
    "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation "
    "(on request from its authors)"
)
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
RELEASE_DIR = "MME_Benchmark_release_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairQuestion:
    """One of the two questions of an image.

    Attributes:
        question_id: The id in answer files, shared by the image's questions.
        line: The prompt with the official suffix, and where it stands.
        released: The official question with its label.
        source: The image.
    """

    question_id: str
    line: Question
    released: ReleasedQuestion
    source: ImageSource

    @property
    def key(self) -> str:
        """The id with a hash of the question."""
        return question_key(self.question_id, self.line.text)


def question_key(question_id: str, text: str) -> str:
    """The key of a question: the image's id, and a hash of the bare question."""
    content = bare_question(text).encode("utf-8", "surrogatepass")
    return f"{question_id}#{hashlib.sha256(content).hexdigest()[:12]}"


class MME:
    """MME's release.

    Args:
        data_dir: The folder with the benchmark's files.
        prompt_suffix: What follows the question in the prompt.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such source.
    """

    name = "mme"
    split = "release"
    definition = "mme_official/1"
    primary_metric = "perception"
    upload = None
    grading = None
    primary_is_mean = False
    has_annotations = True
    grouped_metrics = frozenset(["perception", "cognition", "score", "accuracy_plus"])
    releases: Mapping[str, Release] = {
        "release": Release(
            num_questions=2_374,
            num_images=1_187,
            files={RELEASE_DIR: ORIGIN, "llava_mme.jsonl": LLAVA_ORIGIN},
        )
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        prompt_suffix: str = SHORT_ANSWER_SUFFIX,
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self._release_dir = self.data_dir / RELEASE_DIR
        self._llava_path = self.data_dir / "llava_mme.jsonl"
        self._hub: HubTable | None = None
        if source == "hub":
            self._hub = HubTable("lmms-lab/MME", None, "test", self.data_dir)

    def data_files(self) -> list[Path]:
        """The question files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        return [*find_all([self._llava_path]), *sorted(self._release_dir.rglob("*.txt"))]

    def samples(self) -> list[Sample]:
        """All questions, in the order of LLaVA's file.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        return [self._sample(key, question) for key, question in self._questions.items()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key, told by id and prompt; the last of a question wins.

        Raises:
            DataError: an answer's question is foreign, or a file is missing or malformed.
        """
        predictions = {}
        for answer in answers:
            question_id, prompt = str(answer["question_id"]), str(answer.get("prompt") or "")
            key = question_key(question_id, prompt.removesuffix(self.prompt_suffix))
            if key not in self._questions:
                raise DataError(
                    f"{self.name} has no question {bare_question(prompt)[:200]!r} with the id "
                    f"{question_id!r}. Score the answers with the task that they were given for; "
                    "each must carry the prompt that was asked."
                )
            predictions[key] = Prediction(
                key=key, question_id=question_id, prompt=prompt, text=answer["text"]
            )
        return predictions

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of LLaVA's file.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is foreign.
        """
        check_keys(predictions, self._questions, self.name)
        return [
            _score(key, question, predictions.get(key)) for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """Perception, cognition, and the figures of each category.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        table = {}
        for category, group in group_by(scores, "category").items():
            images = defaultdict(list)
            for score in group:
                images[score.cluster].append(score.value == 1)
            table[category] = pair_figures(list(images.values()))
        return Aggregate(
            metrics={name: sum_scores(table, kinds) for name, kinds in _TOTALS.items()},
            breakdowns={"category": table},
            num_unparsed=sum(score.answer == "other" for score in scores),
            scales=_SCALES,
        )

    def render_results(self, predictions: Mapping[str, Prediction]) -> dict[str, str]:
        """The result files of the official tool, by name, in the order of LLaVA's file.

        Args:
            predictions: Answers by key.

        Raises:
            DataError: a file is missing or malformed, or a question has no answer.
        """
        files: defaultdict[str, str] = defaultdict(str)
        for key, question in self._questions.items():
            if key not in predictions:
                raise DataError(f"{self.name}: {key} has no answer. The tool needs all of them.")
            official, answer = question.released, one_line(predictions[key].text)
            fields = (f"{official.stem}.txt", official.question, official.label, answer)
            files[f"{official.category}.txt"] += "\t".join(fields) + "\n"
        return dict(files)

    @cached_property
    def _questions(self) -> dict[str, PairQuestion]:
        if self._hub is not None:
            found = [self._from_hub(*entry) for entry in enumerate(self._hub.rows)]
        else:
            released = read_release(self._release_dir, ORIGIN)
            if find_optional(self._llava_path):
                found = self._join(released)
            else:
                found = [self._from_release(question) for question in released]
        questions = {question.key: question for question in found}
        num_questions: defaultdict[str, int] = defaultdict(int)
        for question in questions.values():
            num_questions[question.question_id] += 1
        odd = [name for name, number in num_questions.items() if number != 2]
        if odd or len(questions) != len(found):
            raise DataError(
                f"{self.data_dir}: every image of MME must have two different questions, but "
                f"{odd[0] if odd else 'one'} has not. Fetch the files again."
            )
        return questions

    def _join(self, released: list[ReleasedQuestion]) -> list[PairQuestion]:
        """The questions of LLaVA's file with the official labels."""
        official = {question.content: question for question in released}
        joined = []
        for line in read_question_lines(self._llava_path):
            parts = PurePosixPath(str(line.question_id))
            content = (parts.parts[0], parts.stem, bare_question(line.text))
            if content not in official or len(line.image_names) != 1:
                raise DataError(
                    f"{line.where}: the question {content[2]!r} about {parts} is not in "
                    f"{self._release_dir}. Both must be of one release."
                )
            joined.append(
                PairQuestion(
                    question_id=str(line.question_id),
                    line=line,
                    released=official.pop(content),
                    source=image_in(self._release_dir, line.image_names[0]),
                )
            )
        if official:
            raise DataError(
                f"{self._llava_path} lacks {len(official):,} questions of {self._release_dir} (for "
                f"example {next(iter(official))}). Both must be of one release."
            )
        return joined

    def _from_release(self, question: ReleasedQuestion) -> PairQuestion:
        name = question.image_name or f"{question.category}/{question.stem}.jpg"
        source = image_in(self._release_dir, name)
        return _pair_question(name, question, source, f"{self._release_dir}/{name}")

    def _from_hub(self, row: int, entry: tuple[str, dict[str, Any]]) -> PairQuestion:
        place, record = entry
        name = require(record, "question_id", str, place)
        category = require(record, "category", str, place)
        if self._hub is None or category not in CATEGORIES:
            raise DataError(f"{place}: `category` must be one of MME's, but is {category!r}.")
        question = ReleasedQuestion(
            category=category,
            stem=PurePosixPath(name).stem,
            question=require(record, "question", str, place),
            label=require(record, "answer", str, place),
            image_name=name,
        )
        return _pair_question(name, question, self._hub.image(row, name), place)

    def _sample(self, key: str, question: PairQuestion) -> Sample:
        prompt = replace_suffix(question.line, SHORT_ANSWER_SUFFIX, self.prompt_suffix)
        return Sample(
            key=key,
            question_id=question.question_id,
            text=prompt,
            prompt=prompt,
            images=(question.source,),
            target=question.released.label,
            cluster=question.question_id,
            groups={"category": question.released.category},
        )


def _pair_question(
    name: str, question: ReleasedQuestion, source: ImageSource, place: str
) -> PairQuestion:
    line = Question(
        question_id=name,
        text=bare_question(question.question) + SHORT_ANSWER_SUFFIX,
        image_names=(name,),
        where=place,
        fields={},
    )
    return PairQuestion(question_id=name, line=line, released=question, source=source)


def _score(key: str, question: PairQuestion, prediction: Prediction | None) -> Score:
    answer = None if prediction is None else parse_mme(one_line(prediction.text))
    return Score(
        key=key,
        question_id=question.question_id,
        cluster=question.question_id,
        value=float(answer == question.released.label.lower()),
        answer=answer,
        answered=prediction is not None,
        groups={"category": question.released.category},
    )
