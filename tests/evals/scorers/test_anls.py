import pytest

from evals.scorers.anls import score_anls


@pytest.mark.parametrize(
    ("text", "answers", "score"),
    [
        ("abcd", ["abcd"], 1.0),
        ("  AB  cd\n", ["ab cd"], 1.0),
        ("ab", ["abcd"], 0.5),  # exactly a half stays
        ("abx", ["abcdx"], 0.6),
        ("a", ["abc"], 0.0),
        ("abc", ["zzz", "abd"], 1 - 1 / 3),  # the nearest counts
        ("", [""], 1.0),
        (" ", [""], 1.0),
        ("", ["a"], 0.0),
        # The lengths are those of the raw texts in upper case.
        ("ax  ", ["ab"], 0.75),
        ("aß", ["ab"], 1 - 1 / 3),
        ("ßx", ["ßy"], 1 - 1 / 3),
        ("a     b", ["a c"], 1 - 1 / 7),
    ],
)
def test_similarity_to_the_nearest_answer(text, answers, score):
    assert score_anls(text, answers)[0] == score


def test_text_is_compared_in_lower_case_with_single_blanks():
    assert score_anls(" New \t York\u00a0", ["x"])[1] == "new york"
