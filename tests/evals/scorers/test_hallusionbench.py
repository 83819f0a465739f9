import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.hallusionbench import (
    Place,
    build_request,
    easy_and_hard,
    is_held_right,
    read_verdict,
    read_yes_no,
    right_shares,
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes", "yes"),
        ("NO", "no"),
        ("yes.", "yes"),
        ('"Yes"', "yes"),
        ("(Yes)", "yes"),
        ("no; the lines differ", "no"),
        ("yes-man", "yes"),
        ("no_one", "no"),
        ("1,000 yes", "yes"),
        ("Yes and no", "other"),
        ("yes,no", "other"),
        ("yes/no", "other"),
        ("Yes\nNo", "other"),
        ("yes.no", "other"),
        ("yes.1", "other"),
        ("yes. 1", "yes"),
        ("1.yes", "other"),  # a period beside a digit stays, before it or behind it
        ("Yes: the two lines", "other"),
        ("**No**", "other"),
        ("Nope", "other"),
        ("It is not", "other"),
        ("1", "other"),
        ("Ｙｅｓ", "other"),
        ("", "other"),
        (". " * 32 + "yes.", "other"),  # only so many periods are deleted
        (". " * 31 + "yes.", "yes"),
    ],
)
def test_only_one_of_the_words_is_an_answer(text, answer):
    assert read_yes_no(text) == answer


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Correct.", "correct"),
        ("“incorrect”", "incorrect"),
        ("neither correct nor incorrect", "incorrect"),
        ("This is not correct", "correct"),
        ("uncorrected", "correct"),
        ("cor rect", "unclear"),
        ("wrong", "unclear"),
        ("", "unclear"),
    ],
)
def test_verdict_is_found_anywhere_in_the_reply(reply, verdict):
    assert read_verdict(reply) == verdict


def test_judge_is_told_question_reference_and_answer():
    request = build_request("Is {it}?", "It is.", "Yes {answer}")
    assert request.prompt.startswith("Imagine you are an intelligent teacher. Thoroughly read")
    assert request.prompt.endswith(
        'please generate "unclear". \n\n Question:Is {it}?\nReference answer: It is.\n'
        "Prediction answer:Yes {answer}\nOutput:"
    )
    assert "please generate “correct”." in request.prompt
    assert (request.system, request.temperature, request.max_tokens) == ("", 1.0, 16)


def place(name, visual_input="1"):
    return Place(*name.split("_"), visual_input)


ANSWERS = [
    (place("VD_ocr_0_0_0"), [True]),
    (place("VD_ocr_0_0_1"), [False]),
    (place("VD_ocr_0_1_0", "2"), [True]),
    (place("VD_ocr_0_1_1", "2"), [True]),
    (place("VD_ocr_1_0_0"), [True]),
    (place("VS_ocr_0_0_0", "0"), [True]),
    (place("VS_ocr_0_1_0", "1"), [False]),
]


def test_groups_are_right_all_through_and_a_figure_that_is_not_shown_is_none():
    assert right_shares(ANSWERS) == {
        "aAcc": 5 / 7,
        "fAcc": 2 / 4,  # VD 0_1 and 1_0, not VD 0_0, VS 0_1; VS 0_0 shows no image
        "qAcc": 2 / 4,  # VD 0: question 0, not 1; VD 1: question 0; VS 0: not question 0
    }


def test_each_figure_is_the_mean_of_the_runs_of_the_judge():
    runs = [(place("VD_ocr_0_0_0"), [True, True]), (place("VD_ocr_0_0_1"), [True, False])]
    assert right_shares(runs) == {"aAcc": 0.75, "fAcc": 0.5, "qAcc": 0.75}
    missing = [*runs, (place("VD_ocr_0_1_0"), [])]
    assert right_shares(missing) == {"aAcc": 0.5, "fAcc": 0.25, "qAcc": 0.25}


def test_easy_and_hard_are_groups_of_questions_too():
    assert easy_and_hard(ANSWERS) == {"easy": 2 / 4, "hard": 1.0}


def test_no_answers_have_no_shares():
    assert right_shares([]) == {"aAcc": None, "fAcc": None, "qAcc": None}
    assert easy_and_hard(ANSWERS[:2])["hard"] is None


def test_unclear_is_right_only_where_the_image_is_not_shown():
    names = ("VS_map_1_0_0", "VS_map_1_1_0", "VD_map_1_0_0")
    assert [is_held_right("?", place(name)) for name in names] == [True, False, False]
    assert [is_held_right("correct", place(name)) for name in names] == [True] * 3
    assert not any(is_held_right("incorrect", place(name)) for name in names)


@given(st.text())
def test_any_text_is_read(text):
    assert read_yes_no(text) in ("yes", "no", "other")
    assert read_verdict(text) in ("correct", "incorrect", "unclear")
