import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.circular import infer_choice

OPTIONS = {"A": "a frog", "B": "ice", "C": "5,000"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(C)", "C"),
        ("B:ice", "B"),
        ("A A", "A"),
        ("A is my answer and I am quite sure of that", None),
        ("I am quite sure that it must be B", "B"),
        ("not B", "B"),
        ("A or B", None),
        ("b", None),
        ("D", None),
        ("B。", None),
        ("The correct answer is **B**. Here is why: the picture shows it.", "B"),
        ("the ANSWER IS c, so it says in the long text above", "C"),
        ("ICE", "B"),
        ("5,000", "C"),
        ("a frog on ice", None),
        ("it is a frog that sits somewhere in the grass", None),
        ("Z", "Z"),
        ("Sorry, I can't help with images of people yet.", "Z"),
        ("I can't process this file.", "Z"),
        ("Cannot determine the answer: A", "Z"),
        ("Failed to obtain answer via API. B", None),
        ("", None),
    ],
)
def test_policy_reads_letters_then_sentences_then_texts(text, letter):
    assert infer_choice(text, OPTIONS) == letter


def test_length_of_options_is_that_in_lower_case():
    assert infer_choice("it is i\u0307?", {"A": "\u0130", "B": "\u0130z"}) == "A"


@given(st.text(), st.dictionaries(st.sampled_from("ABCD"), st.text(max_size=9)))
def test_any_text_gives_a_letter_or_nothing(text, options):
    assert infer_choice(text, options) in (None, "Z", *"ABCD")


@given(st.sampled_from("ABC"))
def test_bare_letter_is_always_read(letter):
    assert infer_choice(letter, OPTIONS) == letter
