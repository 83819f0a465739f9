"""What the tests promise, held against simulations in which the truth is known."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from evals.figures.paired_tests import (
    PairedComparison,
    compare_paired,
    detectable_difference,
    drop_bound,
    holm,
    mcnemar_p,
)
from evals.figures.statistics import confidence_interval
from tests.evals.figures.simulated_pairs import ACCURACY, GQA, Design

ALPHA = 0.05
NUM_PAIRS = 2_000
FAMILY = {
    "clustered": Design(num_questions=900, num_images=60, tilt=0.6),
    "partial": Design(num_questions=700, num_images=90, loss=(0.3, 0.6, 0.9, 1.0), tilt=0.5),
    "single": Design(num_questions=400, num_images=400),
}


def error_of(rate: float, number: int) -> float:
    """Three standard errors of a rate that is counted in so many trials."""
    return 3 * sqrt(rate * (1 - rate) / number)


@pytest.fixture(scope="module")
def false_alarms() -> tuple[np.ndarray, np.ndarray]:
    """The p values and differences of pairs of equal models, (pairs, tasks)."""
    generator = np.random.default_rng(20)
    images = {name: design.images(generator) for name, design in FAMILY.items()}
    found = [
        [
            compare_paired(*design.draw(images[name], generator), images[name])
            for name, design in FAMILY.items()
        ]
        for _ in range(NUM_PAIRS)
    ]
    p_values = np.array([[comparison.p for comparison in row] for row in found])
    differences = np.array([[comparison.difference for comparison in row] for row in found])
    return p_values, differences


@pytest.mark.slow
@pytest.mark.parametrize("task", FAMILY)
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_equal_models_differ_no_more_often_than_alpha(false_alarms, task, alpha):
    p_values, _ = false_alarms
    rate = (p_values[:, list(FAMILY).index(task)] <= alpha).mean()
    assert rate <= alpha + error_of(alpha, NUM_PAIRS)
    assert rate >= (0.5 if task == "single" else 0.85) * alpha - error_of(alpha, NUM_PAIRS)


@pytest.mark.slow
def test_equal_models_differ_anywhere_in_the_family_no_more_often_than_alpha(false_alarms):
    p_values, differences = false_alarms
    adjusted = np.array([holm(list(row)) for row in p_values])
    alarms = (adjusted <= ALPHA).any(axis=1).mean()
    assert 0.02 <= alarms <= ALPHA + error_of(ALPHA, NUM_PAIRS)
    drops = ((adjusted <= ALPHA) & (differences < 0)).any(axis=1).mean()
    assert drops <= ALPHA / 2 + error_of(ALPHA / 2, NUM_PAIRS)
    unadjusted = (p_values <= ALPHA).any(axis=1).mean()
    assert unadjusted > ALPHA + error_of(ALPHA, NUM_PAIRS)  # the adjustment is needed


def test_questions_that_depend_on_each_other_would_give_false_alarms():
    generator = np.random.default_rng(21)
    design = FAMILY["clustered"]
    images = design.images(generator)
    alarms = 0
    for _ in range(500):
        before, after = design.draw(images, generator)
        alarms += mcnemar_p(int((after > before).sum()), int((after < before).sum())) <= ALPHA
    assert alarms / 500 > ALPHA + error_of(ALPHA, 500)  # so the simulation can tell


def gqa_pairs(drop: float, num_draws: int, seed: int) -> tuple[list[PairedComparison], float]:
    """Pairs of which one is worse by a drop, and how often it is found."""
    generator = np.random.default_rng(seed)
    images = GQA.images(generator)
    pairs = [compare_paired(*GQA.draw(images, generator, drop), images) for _ in range(num_draws)]
    return pairs, float(np.mean([pair.p < ALPHA and pair.difference < 0 for pair in pairs]))


def test_one_point_on_gqa_is_found_with_the_computed_power():
    pairs, detected = gqa_pairs(0.01, num_draws=300, seed=22)
    error = np.mean([pair.standard_error for pair in pairs])
    power = stats.norm.cdf(0.01 / error - stats.norm.ppf(1 - ALPHA / 2))
    assert 0.6 < power < 0.99
    assert detected == pytest.approx(power, abs=error_of(power, 300))


def test_detectable_drop_on_gqa_is_found_with_80_percent_power():
    pairs, _ = gqa_pairs(0.0, num_draws=40, seed=23)
    drop = float(np.mean([detectable_difference(pair) for pair in pairs]))
    _, detected = gqa_pairs(drop, num_draws=300, seed=24)
    assert detected == pytest.approx(0.8, abs=error_of(0.8, 300))


@pytest.mark.parametrize("drop", [0.0, 0.05])
def test_interval_of_a_difference_covers_the_truth_in_95_percent(drop):
    generator = np.random.default_rng(25)
    design = Design(num_questions=1_200, num_images=300, tilt=0.6)
    images = design.images(generator)
    covered = 0
    for _ in range(NUM_PAIRS):
        before, after = design.draw(images, generator, drop)
        low, high = confidence_interval(after - before, images)
        covered += low <= -drop <= high
    assert covered / NUM_PAIRS == pytest.approx(0.95, abs=error_of(0.95, NUM_PAIRS))


def test_interval_of_a_score_covers_the_truth_in_95_percent():
    generator = np.random.default_rng(26)
    images = np.sort(generator.integers(0, 300, 1_200))
    covered = 0
    for _ in range(NUM_PAIRS):
        difficulty = generator.uniform(-0.35, 0.35, 300)[images]
        scores = (generator.random(1_200) < ACCURACY + difficulty).astype(np.float64)
        low, high = confidence_interval(scores, images)
        covered += low <= ACCURACY <= high
    assert covered / NUM_PAIRS == pytest.approx(0.95, abs=error_of(0.95, NUM_PAIRS))


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("num_questions", [20, 60, 400])
@pytest.mark.parametrize(("to_lose", "to_gain"), [(0.02, 0.0), (0.05, 0.02), (0.1, 0.0)])
def test_bound_of_the_drop_holds_however_few_questions(num_questions, to_lose, to_gain):
    generator = np.random.default_rng(27)
    names = np.arange(num_questions)
    held = 0
    for _ in range(500):
        uniform = generator.random(num_questions)
        lost, gained = uniform < to_lose, uniform > 1 - to_gain
        found = compare_paired((~gained).astype(float), (~lost).astype(float), names)
        held += drop_bound(found) >= to_lose - to_gain
    assert held / 500 >= 0.95 - error_of(0.95, 500)


@pytest.mark.parametrize(("num_images", "lost"), [(10, 0.1), (50, 0.05), (400, 0.03)])
def test_bound_of_the_drop_holds_where_whole_images_are_lost(num_images, lost):
    generator = np.random.default_rng(29)
    images = np.repeat(np.arange(num_images), 10)
    held = 0
    for _ in range(500):
        after = np.repeat(generator.random(num_images) >= lost, 10).astype(float)
        held += drop_bound(compare_paired(np.ones(len(images)), after, images)) >= lost
    assert held / 500 >= 0.95 - error_of(0.95, 500)


@pytest.mark.slow
def test_equal_models_on_gqa_differ_no_more_often_than_alpha():
    generator = np.random.default_rng(28)
    images = GQA.images(generator)
    p_values = [compare_paired(*GQA.draw(images, generator), images).p for _ in range(NUM_PAIRS)]
    rate = float(np.mean(np.array(p_values) <= ALPHA))
    assert rate == pytest.approx(ALPHA, abs=error_of(ALPHA, NUM_PAIRS))
