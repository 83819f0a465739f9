"""VQAv2 scores agree with the official evaluator, question by question."""

import json
import random
from pathlib import Path

import pytest

from evals.errors import DataError
from evals.reading.answers import read_answers
from evals.submission import build_submission
from evals.tasks.vqav2 import VQAv2

SCORING = Path(__file__).parents[2] / "../shared/scoring/vqav2"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")

HALF_CENT = 0.5e-4 + 1e-9  # official figures are percentages with two decimals


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def shuffled(rows):
    rows = list(rows)
    random.Random(1).shuffle(rows)
    return rows


def raw_answers(place):
    return read_answers(place / "answers.jsonl").answers


def m4c_answers(place):
    rows = read_json(place / "results_m4c.json")
    return [{"question_id": row["question_id"], "text": row["answer"]} for row in rows]


CASES = [
    ("", "official_on_raw_text", raw_answers, list),
    ("", "official_on_raw_text", raw_answers, reversed),
    ("", "official_on_raw_text", raw_answers, shuffled),
    ("", "official_on_m4c_text", m4c_answers, list),
    ("few_annotators", "official_on_raw_text", raw_answers, list),
]


@pytest.mark.parametrize(("folder", "case", "answers_of", "order"), CASES)
def test_scores_agree_with_the_official_evaluator(folder, case, answers_of, order):
    place = SCORING / folder
    expected = read_json(place / "expected.json")[case]
    task = VQAv2(data_dir=place, split="val")

    scores = task.score(task.match(order(answers_of(place))))
    figures = task.aggregate(scores)

    wanted = {row["question_id"]: row for row in expected["per_question"]}
    assert sorted(score.question_id for score in scores) == sorted(wanted)
    for score in scores:
        row = wanted[score.question_id]
        assert score.value == pytest.approx(row["accuracy"] / 100, abs=HALF_CENT), row
        assert score.answer == row["prediction"]
        assert score.answered
    assert figures.metrics["vqa_accuracy"] * 100 == pytest.approx(expected["overall"], abs=5e-3)
    tables = {"answer_type": "perAnswerType", "question_type": "perQuestionType"}
    for field, name in tables.items():
        got = {group: row["vqa_accuracy"] * 100 for group, row in figures.breakdowns[field].items()}
        assert got == pytest.approx(expected[name], abs=5e-3 + 1e-7)


def test_answer_to_a_foreign_question_is_refused():
    task = VQAv2(data_dir=SCORING, split="val")
    foreign = {"question_id": 1, "text": "yes"}
    with pytest.raises(DataError, match="1 question ids"):
        task.match([*raw_answers(SCORING), foreign])


def test_missing_answer_scores_zero_and_is_not_answered():
    task = VQAv2(data_dir=SCORING, split="val")
    scores = task.score(task.match(raw_answers(SCORING)[:-1]))
    missing = [score for score in scores if not score.answered]
    assert [(score.value, score.answer) for score in missing] == [(0.0, None)]


def test_prompts_of_the_answer_file_are_rebuilt_from_the_official_questions():
    samples = {
        sample.question_id: sample for sample in VQAv2(data_dir=SCORING, split="val").samples()
    }
    answers = raw_answers(SCORING)
    assert len(answers) == len(samples)
    for answer in answers:
        assert samples[answer["question_id"]].prompt == answer["prompt"]


@pytest.mark.parametrize("split", ["test-dev2015", "test2015"])
def test_upload_equals_that_of_the_official_converter(split):
    place = SCORING / "submission"
    answers = read_answers(place / "merge.jsonl")
    task = VQAv2(data_dir=place, split=split)
    with pytest.raises(DataError, match="allow_missing=true"):
        build_submission(task, answers)
    upload = build_submission(task, answers, allow_missing=True)
    assert json.loads(upload.content) == read_json(place / "expected_upload.json")
    assert (upload.suffix, upload.num_repeated, upload.num_unreadable) == (".json", 1, 1)


def test_always_normalizing_is_another_definition_and_scores_higher_on_raw_text():
    scores = {}
    for normalization in ("official", "always"):
        task = VQAv2(data_dir=SCORING, split="val", normalization=normalization)
        aggregate = task.aggregate(task.score(task.match(raw_answers(SCORING))))
        scores[task.definition] = aggregate.metrics["vqa_accuracy"]
    assert scores["vqa_always_normalized/1"] > scores["vqa_official/1"]
