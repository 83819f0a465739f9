r"""MMBench and MMBench-CN: multiple choice with rotated options (Liu et al., arXiv:2307.06281).

Files, in `data_dir`: `mmbench_<split>.tsv` with base64 images, quoted where a cell holds line
breaks. Mirrors: `lmms-lab/MMBench_EN` (dev_20230712) and `lmms-lab/MMBench` (later releases).

One row: `index, question, hint, A, B, C, D, answer, category, image, source, l2-category, comment,
split`. Rows whose indices are equal modulo 10^6 are one question with its options in another
order; the prompt: the hint if there is one, the question, one lettered line an option up to the
first empty one, and a line that asks for the letter.

Metric: a question is right if all its rows are; the accuracy is the mean over questions. The letter
is read by the exact-matching policy of open-compass/VLMEvalKit @ e8e78f05. Test splits are scored
by the server only.

Known deviations: none; where nothing can be read the leaderboard asks a judge, the policy does not.

Published: LLaVA-1.5-7B 64.3, 13B 67.7 (dev_20230712); CN 58.3, 63.6 (dev_cn_20231003).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.benchmark import Upload
from evals.errors import DataError
from evals.figures.metrics import Breakdown, mean, mean_score, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import check_unique, find_all
from evals.reading.hub import HubTable, check_source
from evals.reading.images import ImageSource
from evals.reading.questions import LETTER_SUFFIX
from evals.reading.releases import Release
from evals.reading.tsv import Base64Image, is_missing, read_tsv
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.circular import infer_choice
from evals.submission import render_xlsx

ORIGIN = "https://download.openmmlab.com/mmclassification/datasets/mmbench"
CHINESE_LETTER_SUFFIX = "\n请直接回答选项字母。"
LETTERS = "ABCD"
_PASS = 1_000_000
_FIELDS = ("l2-category", "category")
_LLAVA_EMPTY = frozenset(["nan", "none"])
_EARLIER = (
    f"that is the later release. Fetch mmbench_dev_20230712.tsv from {ORIGIN}, or set "
    "tasks.mmbench.split=dev."
)
_LATER = "that is the release of July 2023. Set tasks.mmbench.split=dev_20230712 to evaluate on it."
_HUB = {
    "dev_20230712": ("lmms-lab/MMBench_EN", None, "dev"),
    "dev": ("lmms-lab/MMBench", "en", "dev"),
    "test": ("lmms-lab/MMBench", "en", "test"),
    "dev_cn_20231003": ("lmms-lab/MMBench", "cn", "dev"),
    "test_cn": ("lmms-lab/MMBench", "cn", "test"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRow:
    """One row of the table.

    Attributes:
        index: The row's index, the id in answer files.
        question: The question.
        hint: What precedes it; empty if nothing does.
        cells: The option cells A to D; empty where pandas would read nothing.
        answer: The right letter, empty for a test split.
        groups: Category and category of the second level, as far as the file has them.
        split: The content of the column.
        image: The image's cell, not kept for scoring.
        place: File and line, for messages.
        row: The position in the table.
    """

    index: int
    question: str
    hint: str
    cells: tuple[str, ...]
    answer: str
    groups: Mapping[str, str | None]
    split: str
    image: str
    place: str
    row: int

    @property
    def options(self) -> dict[str, str]:
        """The letters with an option and its text."""
        pairs = zip(LETTERS, self.cells, strict=True)
        return {letter: cell for letter, cell in pairs if cell}

    @property
    def cluster(self) -> str:
        """What all rows of a question share."""
        return str(self.index % _PASS)


def render_row(question: str, hint: str, cells: Sequence[str]) -> str:
    r"""The prompt of a row without suffix; options stop at the first empty one.

    >>> render_row("Which one?", "Look.", ["a frog", "ice", "", "x"])
    'Look.\nWhich one?\nA. a frog\nB. ice'
    """
    lines = [hint] if hint and hint.lower() not in _LLAVA_EMPTY else []
    lines.append(question)
    for letter, cell in zip(LETTERS, cells, strict=True):
        if not cell or cell.lower() in _LLAVA_EMPTY:
            break
        lines.append(f"{letter}. {cell}")
    return "\n".join(lines)


class MMBench:
    """MMBench on one split, in English or Chinese.

    Args:
        data_dir: The folder with the benchmark's file.
        split: The file's name without `mmbench_`, for example `dev_20230712`.
        language: `en` or `cn`; decides the default suffix and the task's name.
        prompt_suffix: What follows the options in the prompt; None for the language's own.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such language or source, or the mirror has no such split.
    """

    primary_metric = "accuracy"
    primary_is_mean = False
    definition = "mmbench_circular_exact/1"
    grouped_metrics = frozenset(["accuracy"])
    grading = None
    releases: Mapping[str, Release] = {
        "dev_20230712": Release(
            num_questions=4_377,
            files={"mmbench_dev_20230712.tsv": ORIGIN},
            other_releases={4_329: _EARLIER},
        ),
        "dev": Release(
            num_questions=4_329,
            files={"mmbench_dev.tsv": ORIGIN},
            other_releases={4_377: _LATER},
        ),
        "test": Release(num_questions=6_666, files={"mmbench_test.tsv": ORIGIN}),
        "dev_cn_20231003": Release(
            num_questions=4_329, files={"mmbench_dev_cn_20231003.tsv": ORIGIN}
        ),
        "test_cn": Release(num_questions=6_666, files={"mmbench_test_cn.tsv": ORIGIN}),
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "dev_20230712",
        language: str = "en",
        prompt_suffix: str | None = None,
        source: str = "files",
        max_new_tokens: int = 1024,
    ) -> None:
        suffixes = {"en": LETTER_SUFFIX, "cn": CHINESE_LETTER_SUFFIX}
        if language not in suffixes:
            raise ValueError(f"`language` of mmbench must be en or cn, but is {language}.")
        self.name = "mmbench" if language == "en" else "mmbench_cn"
        check_source(self.name, source)
        if source == "hub" and split not in _HUB:
            raise ValueError(f"`split` must be one of {list(_HUB)} on the hub, but is {split}.")
        self.data_dir = Path(data_dir)
        self.split = split
        self.prompt_suffix = suffixes[language] if prompt_suffix is None else prompt_suffix
        self.max_new_tokens = max_new_tokens
        self.has_annotations = not split.startswith("test")
        self._title = f"{self.name} {split}"
        self._path = self.data_dir / f"mmbench_{split}.tsv"
        self._hub = HubTable(*_HUB[split], self.data_dir) if source == "hub" else None

    def data_files(self) -> list[Path]:
        """The table, if it is there."""
        return find_all([self._path]) if self._hub is None else self._hub.data_files()

    def samples(self) -> list[Sample]:
        """One sample a row, in the order of the file.

        Raises:
            DataError: the file is missing, malformed or of another release.
        """
        rows = self._read_rows(skip=())
        return [self._sample(row, rows) for row in rows.values()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an index wins.

        Raises:
            DataError: an answer's index is not in the file, or that is missing or malformed.
        """
        ids = {key: row.index for key, row in self._rows.items()}
        return match_by_id(answers, ids, task=self._title, foreign_is_error=True)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a row, in the order of the file.

        Raises:
            DataError: the split has no annotations, the file is missing or malformed, or a
                prediction's key is not in it.
        """
        if not self.has_annotations:
            raise DataError(
                f"{self._title} has no public annotations, so that its answers cannot be scored "
                "here. Write the file for the server with runners.submit."
            )
        check_keys(predictions, self._rows, self._title)
        return [_score(key, row, predictions.get(key)) for key, row in self._rows.items()]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The circular accuracy, overall and by category, and the accuracy of the first pass.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        questions: defaultdict[str, list[Score]] = defaultdict(list)
        for score in sorted(scores, key=lambda score: int(score.question_id)):
            questions[score.cluster].append(score)
        hits = {name: min(row.value for row in rows) for name, rows in questions.items()}
        first_pass = [score for score in scores if int(score.question_id) < _PASS]
        return Aggregate(
            metrics={
                "accuracy": mean(hits.values()),
                "accuracy_first_pass": mean_score(first_pass),
            },
            breakdowns={
                field: table for field in _FIELDS if (table := _break_down(questions, hits, field))
            },
            num_unparsed=sum(score.answered and score.answer is None for score in scores),
        )

    @property
    def upload(self) -> Upload:
        """What the server takes."""
        return Upload(
            suffix=".xlsx",
            server="https://mmbench.opencompass.org.cn/mmbench-submission",
            render=lambda _, texts: self.render_submission(texts),
        )

    def submission_ids(self) -> tuple[list[str], frozenset[str]]:
        """The indices that the upload lists, in its order, and those that must have an answer.

        Raises:
            DataError: the file is missing or malformed.
        """
        return list(self._rows), frozenset(self._rows)

    def render_submission(self, texts: Mapping[str, str]) -> bytes:
        """The upload: a workbook of the table with the predictions.

        Args:
            texts: The answer to every row by its index.

        Raises:
            DataError: a text cannot stand in a cell of a workbook.
        """
        columns = ["index", "question", *LETTERS, "prediction"]
        columns += ["answer", "split"] if self.has_annotations else ["split"]
        rows: list[list[str | int]] = []
        for key, row in self._rows.items():
            last = [row.answer, row.split] if self.has_annotations else [row.split]
            rows.append([row.index, row.question, *row.cells, texts[key], *last])
        return render_xlsx(columns, rows)

    @cached_property
    def _rows(self) -> dict[str, ChoiceRow]:
        return self._read_rows(skip=("image",))

    def _read_rows(self, skip: tuple[str, ...]) -> dict[str, ChoiceRow]:
        columns = ["index", "question", *LETTERS]
        columns += ["answer"] if self.has_annotations else []
        columns += [] if skip else ["image"]
        if self._hub is not None:
            records = [(place, _as_texts(row)) for place, row in self._hub.rows]
        else:
            records = read_tsv(self._path, columns, origin=ORIGIN, skip=skip)
        rows = [self._parse(place, record, n) for n, (place, record) in enumerate(records)]
        check_unique((row.index for row in rows), str(self._path))
        return {str(row.index): row for row in rows}

    def _parse(self, place: str, record: Mapping[str, str], number: int) -> ChoiceRow:
        cells = {name: "" if is_missing(cell) else cell for name, cell in record.items()}
        index, answer = cells.get("index", ""), cells.get("answer", "")
        if not index.isdecimal():
            raise DataError(f"{place}: `index` must be a number, but is {index!r}. Mend the row.")
        options = tuple(cells.get(letter, "") for letter in LETTERS)
        if self.has_annotations and (len(answer) != 1 or answer not in LETTERS):
            raise DataError(
                f"{place}: `answer` must be a letter from A to D, but is {answer!r}. Mend the row."
            )
        # The mirror writes the second column with a capital letter.
        second = cells.get("l2-category") or cells.get("L2-category") or None
        return ChoiceRow(
            index=int(index),
            question=cells.get("question", ""),
            hint=cells.get("hint", ""),
            cells=options,
            answer=answer,
            groups={"l2-category": second, "category": cells.get("category") or None},
            split=cells.get("split", ""),
            image=cells.get("image", ""),
            place=place,
            row=number,
        )

    def _sample(self, row: ChoiceRow, rows: Mapping[str, ChoiceRow]) -> Sample:
        prompt = render_row(row.question, row.hint, row.cells)
        image: ImageSource
        if self._hub is not None:
            image = self._hub.image(row.row, row.cluster)
        else:
            # Some releases give only the index of the row whose image it is.
            holder = rows.get(row.image, row)
            image = Base64Image(encoded=holder.image, path=self._path, place=holder.place)
        return Sample(
            key=str(row.index),
            question_id=row.index,
            text=prompt + self.prompt_suffix,
            prompt=prompt,
            images=(image,),
            target=row.answer or None,
            cluster=row.cluster,
            groups=row.groups,
        )


def _as_texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if cell is None else str(cell) for name, cell in row.items()}


def _score(key: str, row: ChoiceRow, prediction: Prediction | None) -> Score:
    answer = None if prediction is None else infer_choice(prediction.text, row.options)
    return Score(
        key=key,
        question_id=row.index,
        cluster=row.cluster,
        value=float(answer == row.answer),
        answer=answer,
        answered=prediction is not None,
        groups=row.groups,
    )


def _break_down(
    questions: Mapping[str, Sequence[Score]], hits: Mapping[str, float], field: str
) -> Breakdown:
    """The circular accuracy by a field of the questions' first rows."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for name, rows in questions.items():
        group = rows[0].groups.get(field)
        if group is not None:
            groups[group].append(hits[name])
    return {
        group: {"accuracy": mean(groups[group]), "num_questions": len(groups[group])}
        for group in sorted(groups)
    }
