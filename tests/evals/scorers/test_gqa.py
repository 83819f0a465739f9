import pytest

from evals.scorers.gqa import chi_square_distance, score_grounding

UNIFORM = [[1 / 4] * 2] * 2


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([(0, 0, 1, 1)], 1.0),
        ([(0, 0, 1, 1), (0, 0, 1, 1)], 2.0),
        ([(0, 0, 0.25, 0.25)], 1 / 16),
        ([(0.5, 0.5, 0.5, 1)], 0.0),
        ([], 0.0),
    ],
)
def test_attention_counts_by_the_covered_share_of_its_cell(regions, expected):
    assert score_grounding(UNIFORM, regions) == pytest.approx(expected)


def test_first_index_of_the_attention_runs_along_x():
    attention = [[0.0, 0.0], [1.0, 0.0]]
    assert score_grounding(attention, [(0.5, 0, 1, 0.5)]) == 1.0
    assert score_grounding(attention, [(0, 0.5, 0.5, 1)]) == 0.0


def test_equal_distributions_have_no_distance():
    assert chi_square_distance([("g", "a", "b"), ("g", "b", "a")]) == 0.0


def test_groups_weigh_by_their_size():
    wrong = [("g", "a", None)] * 3  # (0 - 3)^2 / 3 = 3
    right = [("h", "a", "a")]
    assert chi_square_distance(wrong + right) == pytest.approx((3 * 3 + 0 * 1) / 4 / 100)


def test_prediction_that_is_no_target_of_its_group_does_not_count():
    assert chi_square_distance([("g", "a", "a"), ("g", "a", "zebra")]) == 0.5 / 100


def test_without_groups_there_is_no_distance():
    assert chi_square_distance([]) is None
