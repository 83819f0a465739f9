import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.hallusionbench import (
    build_request,
    read_verdict,
    read_yes_no,
    share_of_right_groups,
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


def test_no_groups_have_no_share():
    assert share_of_right_groups([]) is None


@given(st.text())
def test_any_text_is_read(text):
    assert read_yes_no(text) in ("yes", "no", "other")
    assert read_verdict(text) in ("correct", "incorrect", "unclear")
