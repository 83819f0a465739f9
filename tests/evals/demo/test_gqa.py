from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from evals.demo.gqa import ask_gqa, choices_record, question_records
from evals.demo.scene import sample_scene

NUM_QUESTIONS = 31


def ask(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    return scene, ask_gqa(scene, rng, NUM_QUESTIONS)


def records_of(seed):
    scene, questions = ask(seed)
    by_id = {f"{seed:04d}{i:02d}": question for i, question in enumerate(questions)}
    return scene, by_id, question_records(by_id, f"d{seed}")


def test_answers_are_true(look):
    for seed in range(60):
        scene, questions = ask(seed)
        for question in questions:
            assert look(question.text, scene) == question.answer, question.text


@pytest.mark.slow
def test_what_is_entailed_holds_in_every_scene_in_which_the_question_has_that_answer(look):
    scenes = [sample_scene(np.random.default_rng([9, n])) for n in range(300)]
    num_checked = 0
    for seed in range(6):
        _, questions = ask(seed)
        for question, other in permutations(questions, 2):
            if not question.entails(other):
                continue
            for scene in scenes:
                makes_sense = look(other.text, scene) is not None
                if makes_sense and look(question.text, scene) == question.answer:
                    assert look(other.text, scene) == other.answer, (question.text, other.text)
                    num_checked += 1
    assert num_checked > 5000


def test_questions_entail_themselves_unless_they_are_undecided_logic():
    for seed in range(20):
        for question in ask(seed)[1]:
            assert question.entails(question) or question.structural == "logical"


def test_questions_about_a_picture_differ():
    questions = ask(1)[1]
    assert len({question.text for question in questions}) == NUM_QUESTIONS


def test_yes_and_no_are_about_equally_frequent_in_every_kind():
    answers = {}
    for seed in range(150):
        for question in ask(seed)[1]:
            if question.valid == ("yes", "no"):
                answers.setdefault(question.kind, Counter())[question.answer] += 1
    assert set(answers) == {"verifyAttr", "exist", "existAttr", "existAnd", "existOr"}
    for kind, counts in answers.items():
        assert 0.4 < counts["yes"] / counts.total() < 0.6, kind


def test_records_have_the_official_fields_and_refer_to_each_other():
    _, by_id, records = records_of(3)
    assert records.keys() == by_id.keys()
    for key, record in records.items():
        assert set(record) == {
            "semantic", "entailed", "equivalent", "question", "imageId", "isBalanced", "groups",
            "answer", "semanticStr", "annotations", "types", "fullAnswer",
        }  # fmt: skip
        assert set(record["types"]) == {"detailed", "semantic", "structural"}
        assert set(record["groups"]) == {"global", "local"}
        assert record["imageId"] == "d3"
        assert key in record["equivalent"]
        assert records.keys() >= {*record["entailed"], *record["equivalent"]}
    assert any(set(record["entailed"]) - {key} for key, record in records.items())


def test_programs_depend_on_earlier_steps_only():
    for record in records_of(4)[2].values():
        for position, step in enumerate(record["semantic"]):
            assert all(0 <= earlier < position for earlier in step["dependencies"])
        assert record["semanticStr"].count("->") == len(record["semantic"]) - 1


def test_things_named_in_a_question_are_annotated_at_their_words():
    for record in records_of(5)[2].values():
        words = record["question"].split()
        for position in record["annotations"]["question"]:
            assert words[int(position)].strip("?.,") in {
                "circle", "square", "triangle", "diamond", "cross", "ring", "shape"
            }  # fmt: skip


def test_the_answer_is_valid_and_plausible():
    for seed in range(20):
        scene, questions = ask(seed)
        for question in questions:
            choices = choices_record(question, scene)
            assert question.answer in choices["plausible"]
            assert set(choices["plausible"]) <= set(choices["valid"])
