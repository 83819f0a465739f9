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


def test_unreadable_review_stays_in_the_averages():
    figures = compare_to_reference([(8.0, 8.0), UNREADABLE_PAIR])
    assert figures == {"score": 1.0, "reference_mean": 3.5, "model_mean": 3.5}


def test_figure_that_is_no_number_is_none():
    figures = compare_to_reference([(math.nan, 5.0)])
    assert figures == {"score": None, "reference_mean": None, "model_mean": 5.0}
    with pytest.raises(ValueError, match="at least one pair"):
        compare_to_reference([])
