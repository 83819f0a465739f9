import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.scorers.vqa_accuracy import score_soft_accuracy


def records(*answers, ids=True):
    return [
        {"answer": answer, "answer_confidence": "yes", **({"answer_id": number} if ids else {})}
        for number, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("num_matching", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_ten_annotators(num_matching, expected):
    targets = records(*["cat"] * num_matching, *["dog"] * (10 - num_matching))
    assert score_soft_accuracy("cat", targets) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["cat"], 0.0),
        (["cat", "cat"], 1 / 3),
        (["cat"] * 3, 2 / 3),
        (["cat"] * 4, 1.0),
        (["cat", "dog"], 1 / 6),
    ],
)
def test_other_numbers_of_annotators(answers, expected):
    assert score_soft_accuracy("cat", records(*answers)) == expected


def test_equal_records_are_all_left_out_of_the_others():
    assert score_soft_accuracy("cat", records("cat", "cat", "dog", ids=False)) == pytest.approx(
        2 / 9
    )


def test_records_that_differ_in_confidence_are_others():
    targets = records("cat", "cat", ids=False)
    targets[0]["answer_confidence"] = "no"
    assert score_soft_accuracy("cat", targets) == 1 / 3


def test_no_annotators_is_an_error():
    with pytest.raises(ValueError, match="at least one record"):
        score_soft_accuracy("cat", [])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, 3])), min_size=1, max_size=15)
)
def test_equals_the_published_formula(pairs):
    targets = [{"answer": answer, "answer_id": number} for answer, number in pairs]
    accuracies = []
    for target in targets:
        others = [other for other in targets if other != target]
        accuracies.append(min(1, sum(other["answer"] == "a" for other in others) / 3))
    expected = sum(accuracies) / len(accuracies)
    assert score_soft_accuracy("a", targets) == pytest.approx(expected, abs=1e-12)
