import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.judge import (
    UNREADABLE_PAIR,
    ask_for_grade,
    average_runs,
    build_llavabench_request,
    build_mmvet_request,
    compare_to_reference,
    parse_grade,
    parse_score,
)


class ScriptedJudge:
    """A judge that replies by heart and remembers what it was asked."""

    model = "scripted"

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    def reply(self, request):
        self.requests.append(request)
        return self.replies[len(self.requests) - 1]


def test_judge_is_asked_again_and_warmer_until_it_gives_a_grade():
    judge = ScriptedJudge("well", "good", "0.7")
    assert ask_for_grade(judge, "q", "t", "a") == "0.7"
    assert [request.temperature for request in judge.requests] == [0.0, 0.5, 1.0]
    reminder = "Predict the correctness of the answer (digit): "
    assert [reminder in request.prompt for request in judge.requests] == [False, True, True]
    assert {request.max_tokens for request in judge.requests} == {3}


def test_judge_is_asked_five_times_at_most():
    judge = ScriptedJudge(*["well"] * 9)
    assert ask_for_grade(judge, "q", "t", "a") == "well"
    assert len(judge.requests) == 5


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
            average_runs(runs)


def test_unreadable_review_stays_in_the_averages():
    figures = compare_to_reference([(8.0, 8.0), UNREADABLE_PAIR])
    assert figures == {"score": 1.0, "reference_mean": 3.5, "model_mean": 3.5}


def test_figure_that_is_no_number_is_none():
    figures = compare_to_reference([(math.nan, 5.0)])
    assert figures == {"score": None, "reference_mean": None, "model_mean": 5.0}
    with pytest.raises(ValueError, match="at least one pair"):
        compare_to_reference([])
