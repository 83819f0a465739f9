from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evals.figures.paired_tests import (
    compare_paired,
    detectable_difference,
    drop_bound,
    holm,
    mcnemar_p,
    sign_flip_p,
)


@pytest.mark.parametrize("gained", [0, 1, 2, 5, 17, 60])
@pytest.mark.parametrize("lost", [0, 1, 3, 5, 40, 61])
def test_mcnemar_equals_statsmodels(gained, lost):
    expected = mcnemar([[300, lost], [gained, 100]], exact=True).pvalue
    assert mcnemar_p(gained, lost) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gained", [0, 1, 5, 17])
@pytest.mark.parametrize("lost", [0, 1, 5, 40])
def test_sign_flips_of_single_questions_are_mcnemars_test(gained, lost):
    sums = [1.0] * gained + [-1.0] * lost + [0.0] * 7
    assert sign_flip_p(sums) == pytest.approx(mcnemar_p(gained, lost), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [1.0, 0.1, 1 / 3, np.pi])
def test_few_clusters_are_enumerated_as_by_scipy(seed, step):
    sums = np.random.default_rng(seed).integers(-5, 4, 10) * step
    expected = stats.permutation_test(
        (sums, np.zeros(10)), lambda a, b: np.sum(a - b), permutation_type="samples"
    ).pvalue
    assert sign_flip_p(sums) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_random_draws_come_close_to_the_exact_distribution(shift):
    generator = np.random.default_rng(3)
    sums = np.rint(generator.normal(shift, 1.5, 300))
    exact, drawn = sign_flip_p(sums), sign_flip_p(sums * np.pi, seed=1)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 100_000) + 1e-5)


def test_draws_repeat_with_their_seed_and_never_give_zero():
    sums = np.full(60, np.pi)
    assert sign_flip_p(sums, num_draws=999) == pytest.approx(1 / 1000)
    uneven = np.random.default_rng(0).normal(0.1, 1, 60)
    assert sign_flip_p(uneven, seed=5) == sign_flip_p(uneven, seed=5)
    assert sign_flip_p(uneven, seed=5) != sign_flip_p(uneven, seed=6)


def test_exact_p_is_never_zero_or_negative():
    assert sign_flip_p([1.0] * 30) == pytest.approx(2.0**-29, rel=1e-6)
    assert 0 < sign_flip_p([1.0] * 5000) < 1e-12


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "p_values",
    [
        [0.2],
        [0.01, 0.04, 0.03],
        [0.04, 0.001, 0.9, 0.011, 0.011],
        [1.0, 1.0],
        list(np.random.default_rng(0).random(12) ** 3),
    ],
)
def test_holm_equals_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected), abs=1e-15)


def test_comparison_counts_what_changed():
    found = compare_paired([1.0, 0.3, 0.0, 0.6], [0.0, 0.6, 0.0, 0.6], ["a", "a", "b", "c"])
    assert (found.num_questions, found.num_clusters) == (4, 3)
    assert (found.gained, found.lost) == (1, 1)
    assert found.baseline == pytest.approx(0.475)
    assert found.candidate == pytest.approx(0.3)
    assert found.difference == pytest.approx(-0.175)


def test_one_question_a_cluster_takes_mcnemars_test_and_clusters_the_permutation():
    before, after = [1.0] * 6 + [0.0], [0.0] * 6 + [1.0]
    singles = compare_paired(before, after, list("abcdefg"))
    assert singles.p == pytest.approx(2 * 8 / 2**7)
    pairs = compare_paired(before, after, list("aabbccc"))  # sums -2, -2, -1
    assert pairs.p == pytest.approx(2 / 2**3)


def test_identical_scores_give_p_one_and_no_difference():
    scores = list(np.random.default_rng(0).random(30))
    found = compare_paired(scores, scores, [str(n // 3) for n in range(30)])
    assert (found.p, found.difference, found.standard_error) == (1.0, 0.0, 0.0)
    assert (found.gained, found.lost) == (0, 0)
    most = 1 - 0.025 ** (1 / 10)  # of ten images, none of which changed
    assert found.interval == pytest.approx((-most, most))


def test_scores_that_are_all_lost_leave_open_how_many_would_be():
    found = compare_paired([1.0] * 8, [0.0] * 8, [str(n) for n in range(8)])
    assert found.interval == pytest.approx((-1.0, -(0.025 ** (1 / 8))))


def test_rounding_of_equal_scores_is_no_change():
    found = compare_paired([0.3, 1.0], [0.1 + 0.2, 1.0], ["a", "b"])
    assert (found.gained, found.difference, found.p) == (0, 0.0, 1.0)


def test_one_cluster_has_neither_interval_nor_bound():
    found = compare_paired([1.0, 1.0, 1.0], [0.0, 1.0, 1.0], ["a"] * 3)
    assert (found.standard_error, found.interval, found.p) == (None, None, 1.0)
    assert drop_bound(found) is None


@pytest.mark.parametrize(
    ("baseline", "candidate", "clusters"),
    [([], [], []), ([1.0], [1.0, 0.0], ["a"]), ([1.0], [1.0], ["a", "b"])],
)
def test_unequal_or_empty_input_is_an_error(baseline, candidate, clusters):
    with pytest.raises(ValueError, match="of one length"):
        compare_paired(baseline, candidate, clusters)


@pytest.mark.parametrize("num_lost", [0, 1, 7, 50])
def test_bound_over_losses_alone_is_wilsons(num_lost):
    after = [0.0] * num_lost + [1.0] * (2000 - num_lost)
    found = compare_paired([1.0] * 2000, after, [str(n) for n in range(2000)])
    expected = stats.binomtest(num_lost, 2000).proportion_ci(0.9, method="wilson").high
    assert drop_bound(found) == pytest.approx(expected, rel=2e-3)  # Student's t is not quite normal


def test_bound_without_a_change_depends_on_the_number_of_questions():
    found = compare_paired([1.0] * 20, [1.0] * 20, [str(n) for n in range(20)])
    squared = stats.t.ppf(0.95, 19) ** 2
    assert drop_bound(found) == pytest.approx(squared / (20 + squared))


def test_bound_without_a_change_depends_on_the_number_of_images():
    images = [str(n // 100) for n in range(1000)]
    found = compare_paired([1.0] * 1000, [1.0] * 1000, images)
    squared = stats.t.ppf(0.95, 9) ** 2
    assert drop_bound(found) == pytest.approx(squared / (10 + squared))


def test_bound_over_many_changes_is_the_usual_one():
    generator = np.random.default_rng(0)
    before, after = generator.integers(0, 2, (2, 20_000)).astype(float)
    found = compare_paired(before, after, [str(n) for n in range(20_000)])
    usual = -found.difference + stats.norm.ppf(0.95) * found.standard_error
    assert drop_bound(found) == pytest.approx(usual, abs=1e-4)
    assert drop_bound(found, alpha=0.01) > drop_bound(found, alpha=0.05)


def changed(num_lost, num_gained, num_questions, num_images=None):
    images = [str(n % (num_images or num_questions)) for n in range(num_questions)]
    before = [1.0] * num_lost + [0.0] * (num_questions - num_lost)
    after = [0.0] * num_lost + [1.0] * num_gained
    return compare_paired(before, after + [0.0] * (num_questions - len(after)), images)


def test_interval_of_a_difference_ends_where_no_difference_can_be():
    found = changed(3, 0, 5)
    assert found.interval == (-1.0, pytest.approx(-0.6 + stats.t.ppf(0.975, 4) * 0.06**0.5))


def test_detectable_difference_over_many_changes_is_the_usual_one():
    found = changed(40, 20, 2000)
    quantiles = 1.959964 + 0.841621
    assert detectable_difference(found) == pytest.approx(quantiles * found.standard_error, rel=1e-6)
    assert detectable_difference(found, alpha=0.01) > detectable_difference(found)
    assert detectable_difference(found, power=0.9) > detectable_difference(found)


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.25, 0.01])
@pytest.mark.parametrize(("lost", "gained", "number"), [(0, 0, 60), (1, 0, 20), (3, 0, 120)])
def test_detectable_difference_after_few_changes_is_what_mcnemar_finds(alpha, lost, gained, number):
    drop = detectable_difference(changed(lost, gained, number), alpha=alpha)
    fewest = next(n for n in range(number) if mcnemar_p(0, n) < alpha)
    assert stats.binom.sf(fewest - 1, number, drop) == pytest.approx(0.8)


def test_detectable_difference_over_few_images_is_none_where_the_test_can_find_nothing():
    assert detectable_difference(changed(0, 0, 5)) is None
    assert detectable_difference(changed(2, 1, 600, num_images=5)) is None
    assert detectable_difference(changed(2, 1, 600, num_images=6)) == pytest.approx(0.8 ** (1 / 6))
