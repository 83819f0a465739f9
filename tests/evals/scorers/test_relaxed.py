import pytest

from evals.scorers.relaxed import score_relaxed


@pytest.mark.parametrize(
    ("text", "target"),
    [
        *(("2015", "2010"), ("21", "20"), ("19", "20"), ("-21", "-20"), ("20.0", "20")),
        *(("5%", "0.05"), ("0.05", "5%"), ("5%%", "5%"), ("5 %", "5%"), (" 20 ", "20")),
        *(("1e3", "1000"), ("1_000", "1000"), ("+5", "5"), (".5", "0.5"), ("٥", "5")),
        *(("12,345", "12,345"), ("Yes", "YES"), ("$5", "$5"), ("0", "0"), ("", ""), ("%", "%")),
    ],
)
def test_near_numbers_and_equal_texts_are_right(text, target):
    assert score_relaxed(text, target) == 1.0


@pytest.mark.parametrize(
    ("text", "target"),
    [
        *(("21.0000001", "20"), ("20", "-20"), ("0.315", "0.3"), ("5", "5%"), ("5", "0.05")),
        *(("0.0", "0"), ("0%", "0"), ("1e-9", "0"), ("nan", "nan"), ("inf", "inf")),
        *(("nan", "5"), ("5", "nan"), ("inf", "5"), ("12345", "12,345"), ("$5", "5")),
        *(("5 percent", "5%"), ("yes ", "yes"), ("yes.", "yes"), ("", "5"), ("%5", "5%")),
    ],
)
def test_everything_else_is_wrong(text, target):
    assert score_relaxed(text, target) == 0.0


def test_tolerance_can_be_chosen():
    assert score_relaxed("21", "20", tolerance=0.01) == 0.0
    assert score_relaxed("20", "20", tolerance=0.0) == 1.0
