import re
from collections import Counter

import numpy as np
import pytest

from evals.demo.scene import COLORS, sample_scene
from evals.demo.scienceqa import ask_about_picture, ask_without_picture, problem_record


def picture_questions(count):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        yield scene, ask_about_picture(scene, rng)


def text_questions(count):
    return [ask_without_picture(np.random.default_rng(seed)) for seed in range(count)]


def test_answers_about_pictures_are_true(look):
    for scene, question in picture_questions(300):
        right = question.choices[question.answer]
        if question.skill == "Find in a picture":
            seen = scene.colors if right in COLORS else scene.shapes
            assert [choice for choice in question.choices if choice in seen] == [right]
        else:
            assert look(question.question, scene) == right


def test_answers_stand_in_the_hint():
    with_hint = [question for question in text_questions(400) if question.hint]
    assert len(with_hint) > 100
    for question in with_hint:
        noun = re.findall(r"the (\w+)\?", question.question)[0]
        sentences = [s for s in question.hint.split(".") if re.search(rf"\b{noun}\b", s)]
        assert len(sentences) == 1
        assert question.choices[question.answer] in sentences[0].split()


@pytest.mark.parametrize(
    "questions",
    [[q for _, q in picture_questions(600)], text_questions(600)],
    ids=["with picture", "without picture"],
)
def test_every_letter_is_right_equally_often_among_questions_of_equal_length(questions):
    for num_choices in (2, 3, 4, 5):
        letters = Counter(q.answer for q in questions if len(q.choices) == num_choices)
        expected = letters.total() / num_choices
        assert set(letters) == set(range(num_choices))
        assert all(abs(count - expected) < 0.45 * expected for count in letters.values())


def test_choices_differ_and_hold_the_answer():
    for question in [q for _, q in picture_questions(200)] + text_questions(300):
        assert 2 <= len(question.choices) <= 5
        assert len(set(question.choices)) == len(question.choices)
        assert 0 <= question.answer < len(question.choices)


def test_all_subjects_and_kinds_of_context_occur():
    questions = [q for _, q in picture_questions(100)] + text_questions(200)
    assert {q.subject for q in questions} == {
        "natural science", "social science", "language science"
    }  # fmt: skip
    assert {(bool(q.hint), q.needs_picture) for q in questions} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip


def test_the_record_has_the_official_fields():
    _, question = next(picture_questions(1))
    record = problem_record(question, "demo", np.random.default_rng(0))
    assert set(record) == {
        "question", "choices", "answer", "hint", "image", "task", "grade", "subject", "topic",
        "category", "skill", "lecture", "solution", "split",
    }  # fmt: skip
    assert record["image"] == "image.png"
    assert record["split"] == "demo"
    assert re.fullmatch(r"grade([1-9]|1[0-2])", record["grade"])
    text_record = problem_record(text_questions(1)[0], "demo", np.random.default_rng(0))
    assert text_record["image"] is None
