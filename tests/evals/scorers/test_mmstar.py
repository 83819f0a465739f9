import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.mmstar import read_first_letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("C: text", "C"),
        ("(D)", "D"),
        ("( D)", None),
        ("(\nB)", None),
        ("OPTION A", "A"),
        ("option\nC", "C"),
        ("option (A)", None),
        ("options C", None),
        ("The Answer Is A", "A"),
        ("the answer is: A", None),
        ("the correct answer is A", None),
        ("Answer: D", "A"),  # whatever follows the first letter is free
        ("Apple", "A"),
        ("Definitely B", "D"),
        ("a red car", "A"),
        ("None", None),
        ("E", None),
        ("-C", None),
        ("（A）", None),
        ("(", None),
        ("option", None),
        ("", None),
    ],
)
def test_letter_is_the_first_one_behind_an_opening(text, letter):
    assert read_first_letter(text) == letter


@given(st.text())
def test_any_text_gives_a_letter_or_nothing(text):
    assert read_first_letter(text) in (None, *"ABCD")
