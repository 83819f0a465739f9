import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.mathvista import AnswerForm, normalize_extraction, read_directly

INTEGER, LIST = AnswerForm("integer"), AnswerForm("list")
ONE, TWO = AnswerForm("float", precision=1), AnswerForm("float", precision=2)
ANGLES = AnswerForm("text", ["135°", "140°", "145°", "150°"])
LETTERS = AnswerForm("text", ["ab", "ba", "abc"])


@pytest.mark.parametrize(
    ("text", "form", "extraction"),
    [
        ("", INTEGER, ""),
        ("", ANGLES, ""),
        ("145°", ANGLES, "145°"),
        ("C", ANGLES, None),
        ("(C)", ANGLES, None),
        ("012", INTEGER, "12"),
        ("1_000", INTEGER, "1000"),
        ("１２", INTEGER, "12"),
        ("+12", INTEGER, "12"),
        ("12.", INTEGER, None),
        ("1e3", INTEGER, None),
        ("1,000", INTEGER, None),
        ("1", ONE, "1.0"),
        ("3.0e-2", TWO, "0.03"),
        ("nan", ONE, "nan"),
        ("1.2 m", ONE, None),
        ("[1, 2]", LIST, None),
    ],
)
def test_direct_rule_reads_choices_and_plain_numbers(text, form, extraction):
    assert read_directly(text, form) == extraction


@pytest.mark.parametrize(
    ("extraction", "form", "answer"),
    [
        ("(C) 145°", ANGLES, "145°"),
        ("(A) or (C)", ANGLES, "135°"),
        ("it is (c)", ANGLES, "145°"),
        (" C ", ANGLES, "145°"),
        ("c", ANGLES, "135°"),  # only a bracketed letter may be small
        ("C.", ANGLES, "135°"),
        ("E", ANGLES, "135°"),
        ("B) 140", ANGLES, "140°"),
        ("", ANGLES, "135°"),
        ("b", LETTERS, "ab"),
        ("(Z) abc", LETTERS, "ab"),  # the letter replaces the text
        ("abcd", LETTERS, "abc"),
        ("", LETTERS, "ab"),
        ("12.9", INTEGER, "12"),
        ("-0.5", INTEGER, "0"),
        ("1e3", INTEGER, "1000"),
        ("12.", INTEGER, "12"),
        ("inf", INTEGER, None),
        ("nan", INTEGER, None),
        ("1,000", INTEGER, None),
        ("12 cm", INTEGER, None),
        ("", INTEGER, None),
        ("2.675", TWO, "2.67"),
        ("0.50", TWO, "0.5"),
        ("1e16", TWO, "1e+16"),
        ("-0.04", ONE, "-0.0"),
        ("1.25", ONE, "1.2"),
        ("inf", ONE, "inf"),
        ("$1.45", TWO, None),
        ("[1,2]", LIST, "[1,2]"),
        ("", LIST, ""),
    ],
)
def test_extraction_becomes_what_targets_look_like(extraction, form, answer):
    assert normalize_extraction(extraction, form) == answer


@given(st.text(), st.lists(st.text(), min_size=1, max_size=5))
def test_choice_is_always_read(text, choices):
    assert normalize_extraction(text, AnswerForm("text", choices)) in choices
