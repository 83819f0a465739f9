import pytest

from evals.scorers.answerability import score_answerability


def test_perfect_order_has_full_precision():
    assert score_answerability([0, 0, 1], [0.1, 0.2, 0.9]) == (1.0, 1.0)


def test_equal_confidences_are_taken_together():
    assert score_answerability([0, 1], [0.5, 0.5]) == (0.5, 0.0)


@pytest.mark.parametrize(("labels", "confidences"), [([1, 1], [0.1, 0.2]), ([0], []), ([], [])])
def test_figures_need_an_unanswerable_question(labels, confidences):
    with pytest.raises(ValueError, match="one length and hold an unanswerable"):
        score_answerability(labels, confidences)
