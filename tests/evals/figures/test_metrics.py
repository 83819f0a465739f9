from dataclasses import replace

from evals.figures.metrics import break_down_all, break_down_labels, count_unread, mean
from evals.records import Score


def score(value, **groups):
    return Score(
        key="k", question_id="k", cluster="c", value=value, answer="a", answered=True, groups=groups
    )


def test_mean_of_nothing_is_none_and_not_zero():
    assert mean([]) is None
    assert mean(iter([1.0, 0.0])) == 0.5


def test_answer_is_unread_only_where_one_was_given():
    read, unread = score(0.0), replace(score(0.0), answer=None)
    assert count_unread([read, unread, replace(unread, answered=False)]) == 1


def test_groups_are_sorted_and_numbers_by_value():
    scores = [score(1.0, steps=steps) for steps in ("10", "9", "2")]
    assert list(break_down_all(scores, ["steps"], "accuracy")["steps"]) == ["2", "9", "10"]


def test_scores_without_the_field_are_in_no_group():
    scores = [score(1.0, topic="a"), score(0.0, topic=None), score(0.5)]
    assert break_down_all(scores, ["topic"], "accuracy") == {
        "topic": {"a": {"accuracy": 1.0, "num_questions": 1}}
    }


def test_field_that_no_score_has_is_left_out():
    assert break_down_all([score(1.0, a="x")], ["a", "b"], "m") == {
        "a": {"x": {"m": 1.0, "num_questions": 1}}
    }


def labeled(value, **details):
    return Score(
        key="k", question_id=1, cluster="", value=value, answer="", answered=True, details=details
    )


def test_question_counts_in_each_of_its_labels():
    scores = [labeled(1.0, kind=("b", "a", "b")), labeled(0.0, kind=("b",)), labeled(1.0, kind=())]
    assert break_down_labels(scores, ["kind", "other"], "anls") == {
        "kind": {
            "a": {"anls": 1.0, "num_questions": 1},
            "b": {"anls": 0.5, "num_questions": 2},
        }
    }
