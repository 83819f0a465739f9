import pytest

from evals.scorers.exact import convert_gqa, score_exact


@pytest.mark.parametrize(
    ("text", "converted"),
    [
        ("Yes", "yes"),
        ("cup...", "cup"),
        ("cup.\n", "cup.\n"),
        (" cup", " cup"),
        ("a.b.", "a.b"),
        ('"Cup"', '"cup"'),
        (".", ""),
    ],
)
def test_only_trailing_periods_and_case_are_changed(text, converted):
    assert convert_gqa(text) == converted


def test_only_equal_texts_match():
    assert [score_exact("cup", target) for target in ("cup", "cups", "Cup", "")] == [1, 0, 0, 0]
