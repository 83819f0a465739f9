import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.yes_no import binary_figures, count_missing_as_wrong, parse_mme, parse_pope


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("no", "no"),
        ("No.", "no"),
        ("no, it is not", "no"),
        ("There is not one.", "no"),
        ("NO", "yes"),
        ("isn't", "yes"),
        ("No!", "yes"),
        ("no\n", "yes"),
        ("Yes. No.", "yes"),
        (".no", "yes"),
        ("not,", "no"),
        ("", "yes"),
    ],
)
def test_pope_reads_words_of_the_first_sentence(text, answer):
    assert parse_pope(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("Not", "no"),
        ("none", "no"),
        ("nothing", "no"),
        ("yesno", "yes"),
        ("Unknown", "other"),
        ("y", "other"),
        ("I do not", "other"),
        ("The yes", "other"),
        (" no", "no"),
        ("", "other"),
    ],
)
def test_mme_reads_four_characters(text, answer):
    assert parse_mme(text) == answer


@given(st.text())
def test_any_text_is_read(text):
    assert parse_pope(text) in ("yes", "no")
    assert parse_mme(text) in ("yes", "no", "other")


OUTCOMES = st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["yes", "no"])))


@given(OUTCOMES)
def test_figures_follow_from_counts(pairs):
    hits = pairs.count(("yes", "yes"))
    false_alarms, misses = pairs.count(("yes", "no")), pairs.count(("no", "yes"))
    figures = binary_figures(pairs)
    assert (figures["f1"] is None) == (hits == 0)
    if hits:
        f1 = 2 * hits / (2 * hits + false_alarms + misses)
        assert figures["f1"] == pytest.approx(f1)
        assert figures["precision"] == hits / (hits + false_alarms)
        assert figures["recall"] == hits / (hits + misses)


def test_missing_answer_is_wrong_on_both_sides():
    assert count_missing_as_wrong(None, "yes") == ("no", "yes")
    assert count_missing_as_wrong(None, "no") == ("yes", "no")
