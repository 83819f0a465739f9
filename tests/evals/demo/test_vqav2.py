from collections import Counter

import numpy as np
import pytest

from evals.demo.scene import sample_scene
from evals.demo.vqav2 import VQAQuestion, annotation_record, ask_vqav2, question_record


def asked(num_scenes, num_questions=5):
    for seed in range(num_scenes):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        for question in ask_vqav2(scene, rng, num_questions):
            yield scene, question


def test_answers_are_true(look):
    for scene, question in asked(300):
        assert look(question.text, scene) == question.answer, question


def test_questions_about_a_picture_differ():
    rng = np.random.default_rng(0)
    questions = ask_vqav2(sample_scene(rng), rng, 20)
    assert len({question.text for question in questions}) == 20


def test_yes_and_no_are_about_equally_frequent():
    answers = Counter(q.answer for _, q in asked(400) if q.answer_type == "yes/no")
    assert 0.45 < answers["yes"] / answers.total() < 0.55


def test_every_kind_is_asked_and_none_has_a_dominating_answer():
    by_kind = {}
    for _, question in asked(400):
        by_kind.setdefault(question.kind, Counter())[question.answer] += 1
    assert len(by_kind) == 6
    for kind, answers in by_kind.items():
        assert answers.most_common(1)[0][1] / answers.total() < 0.6, kind


@pytest.mark.parametrize(
    ("answer", "answer_type"), [("no", "yes/no"), ("3", "number"), ("red", "other")]
)
def test_answer_type_follows_the_answer(answer, answer_type):
    assert VQAQuestion(kind="what", text="", answer=answer).answer_type == answer_type


def test_annotators_mostly_agree_and_sometimes_differ():
    rng = np.random.default_rng(0)
    question = VQAQuestion(kind="what color is the", text="What color is the ring?", answer="red")
    agreeing = Counter()
    for _ in range(500):
        record = annotation_record(question, 7, 7001, rng)
        assert [answer["answer_id"] for answer in record["answers"]] == list(range(1, 11))
        answers = Counter(answer["answer"] for answer in record["answers"])
        assert record["multiple_choice_answer"] == "red"
        agreeing[answers["red"]] += 1
    assert min(agreeing) == 3
    assert 0.45 < agreeing[10] / 500 < 0.65
    assert sum(agreeing[n] for n in (7, 8, 9, 10)) / 500 > 0.9


def test_records_have_the_official_fields():
    question = VQAQuestion(kind="how many", text="How many rings are there?", answer="2")
    assert question_record(question, 7, 7001) == {
        "image_id": 7,
        "question": "How many rings are there?",
        "question_id": 7001,
    }
    annotation = annotation_record(question, 7, 7001, np.random.default_rng(0))
    assert set(annotation) == {
        "question_type", "multiple_choice_answer", "answers", "image_id", "answer_type",
        "question_id",
    }  # fmt: skip
    assert set(annotation["answers"][0]) == {"answer", "answer_confidence", "answer_id"}
