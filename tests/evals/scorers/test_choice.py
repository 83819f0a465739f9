import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.scorers.choice import choice_index, parse_choice


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        ("E", "E"),
        ("A. x", "A"),
        ("A. ", "A"),
        ("The answer is B.", "B"),
        ("The answer is AB.", "A"),
        ("The answer is Z.", "Z"),
        ("So: The answer is C, I think", "C"),
    ],
)
def test_letter_is_read(text, letter):
    assert parse_choice(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "F",
        "a",
        "AB",
        "A.",
        "A.x",
        " A",
        "A\n",
        "F. x",
        "The answer is A",
        "The answer is A\n",
        "the answer is A.",
        "The answer is A. The answer is A.",
        "The answer is A. The answer is B.",
    ],
)
def test_answer_without_letter_is_unparsed(text):
    assert parse_choice(text) is None


@pytest.mark.parametrize(
    ("letter", "num_choices", "index"),
    [
        ("A", 2, 0),
        ("B", 2, 1),
        ("C", 2, -1),
        ("E", 5, 4),
        ("E", 4, -1),
        ("Z", 5, -1),
        (None, 5, -1),
    ],
)
def test_index_is_among_the_choices_or_none(letter, num_choices, index):
    assert choice_index(letter, num_choices) == index


@settings(deadline=None)
@given(
    st.text(max_size=30) | st.lists(st.sampled_from(["The answer is ", "A", ".", "Z"])).map("".join)
)
def test_any_text_gives_a_letter_or_none(text):
    letter = parse_choice(text)
    assert letter is None or (len(letter) == 1 and letter in text)
    assert -1 <= choice_index(letter, 3) <= 2
