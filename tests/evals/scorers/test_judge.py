import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.judge import (
    UNREADABLE_PAIR,
    build_llavabench_request,
    build_mmvet_request,
    compare_to_reference,
    deviation_of_runs,
    parse_grade,
    parse_score,
    read_points,
)


def test_request_holds_the_row_to_complete():
    request = build_mmvet_request("Why?", "a<OR>b", "c | d")
    assert request.prompt.endswith("\nWhy? | a <OR> b | c | d | ")
    assert (request.system, request.temperature) == ("", 0.0)


def test_review_shows_reference_first():
    request = build_llavabench_request(context="c", question="q", reference="r", answer="a")
    head = "[Context]\nc\n\n[Question]\nq\n\n[Assistant 1]\nr\n\n[End of Assistant 1]\n\n"
    assert request.prompt.startswith(
        head + "[Assistant 2]\na\n\n[End of Assistant 2]\n\n[System]\n"
    )
    assert request.prompt.endswith(".\n\n")
    assert (request.temperature, request.max_tokens) == (0.2, 1024)


@given(st.text())
def test_any_reply_is_read(text):
    grade = parse_grade(text)
    assert grade is None or 0 <= grade <= 1
    assert len(parse_score(text)) == 2


def test_runs_must_be_complete():
    for runs in ([], [[]], [[1.0], [1.0, 0.5]]):
        with pytest.raises(ValueError, match="equally many"):
            deviation_of_runs(runs)


@pytest.mark.parametrize(
    ("review", "points"),
    [
        ("8, 6\nFine.", (8.0, 6.0)),
        (" 8  6.5 ", (8.0, 6.5)),
        ("8 , 6\r\nFine.", (8.0, 6.0)),
        ("0 10", (0.0, 10.0)),
        ("8 9 10", None),
        ("-1 -1", None),
        ("80 60", None),
        ("nan 5", None),
        ("inf 5", None),
        ("Scores: 8 6", None),
        ("error", None),
        ("", None),
        ("\n8 6", None),
    ],
)
def test_review_gives_two_points_or_none(review, points):
    assert read_points(review) == points


@given(st.text(alphabet="0123456789., \n", max_size=8))
def test_what_is_officially_read_is_read_alike(review):
    official, read = parse_score(review), read_points(review)
    if official != UNREADABLE_PAIR and read is not None:
        assert read == official


def test_figure_that_is_no_number_is_none():
    figures = compare_to_reference([(math.nan, 5.0)])
    assert figures == {"score": None, "reference_mean": None, "model_mean": 5.0}
    with pytest.raises(ValueError, match="at least one pair"):
        compare_to_reference([])
