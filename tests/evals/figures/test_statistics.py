from math import sqrt

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from evals.figures.statistics import (
    EXACT,
    MANY_CLUSTERS,
    MAX_JACKKNIFE_GROUPS,
    NORMAL,
    Z_95,
    clustered_standard_error,
    confidence_interval,
    interval_of,
    jackknife_standard_error,
)


def test_one_question_a_cluster_gives_the_usual_standard_error():
    values = np.random.default_rng(0).random(50)
    expected = values.std(ddof=1) / sqrt(50)
    got = clustered_standard_error(list(values), [str(n) for n in range(50)])
    assert got == pytest.approx(expected)


def test_copies_of_a_question_in_its_cluster_add_no_certainty():
    values = list(np.random.default_rng(1).random(20))
    clusters = [str(n) for n in range(20)]
    single = clustered_standard_error(values, clusters)
    assert clustered_standard_error(values * 7, clusters * 7) == pytest.approx(single)


def test_equals_the_sum_over_pairs_within_clusters():
    generator = np.random.default_rng(2)
    values, clusters = generator.random(40), generator.integers(0, 6, 40)
    residuals = values - values.mean()
    pairs = sum(
        residuals[i] * residuals[j]
        for i in range(40)
        for j in range(40)
        if clusters[i] == clusters[j]
    )
    expected = sqrt(6 / 5 * pairs) / 40
    got = clustered_standard_error(list(values), [str(c) for c in clusters])
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("num_questions", "num_clusters"), [(12, 3), (500, 40), (12_578, 398)])
def test_equals_the_clustered_error_of_statsmodels(seed, num_questions, num_clusters):
    generator = np.random.default_rng(seed)
    clusters = generator.integers(0, num_clusters, num_questions)
    values = (generator.random(num_questions) < generator.random(num_clusters)[clusters]) * 1.0
    fitted = sm.OLS(values, np.ones(num_questions)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=num_clusters < MANY_CLUSTERS
    )
    got = clustered_standard_error(values, [str(c) for c in clusters])
    assert got == pytest.approx(fitted.bse[0], abs=1e-9, rel=1e-9)
    low, high = confidence_interval(values, [str(c) for c in clusters])
    assert (low, high) == pytest.approx(tuple(fitted.conf_int()[0]), abs=1e-9)


def test_interval_is_centered_on_the_mean():
    low, high = confidence_interval([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "c"])
    error = clustered_standard_error([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "c"])
    assert (low + high) / 2 == pytest.approx(0.75)
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 2) * error)


def few(number, value, *, share=True):
    """The interval of a figure whose standard error is 0.02, over so many questions and images."""
    return interval_of(value, 0.02, [str(n) for n in range(number)], largest=1.0 if share else None)


def test_over_few_images_a_share_has_the_exact_interval_and_over_more_the_normal_one():
    assert [few(number, 0.9).method for number in (2, 29, 30)] == [EXACT, EXACT, NORMAL]
    assert few(30, 0.9).ends == pytest.approx((0.9 - 1.96 * 0.02, 0.9 + 1.96 * 0.02), abs=1e-5)
    assert few(29, 3.0, share=False).method == NORMAL  # no share, so no draws


@pytest.mark.parametrize(("hits", "number"), [(2, 3), (1, 12), (28, 29)])
def test_exact_interval_of_few_questions_about_an_image_each_is_scipys(hits, number):
    values, images = [1.0] * hits + [0.0] * (number - hits), [str(n) for n in range(number)]
    error = clustered_standard_error(values, images)
    expected = stats.binomtest(hits, number).proportion_ci(0.95, method="exact")
    assert interval_of(hits / number, error, images).ends == pytest.approx(tuple(expected))


@pytest.mark.parametrize("scale", [1.0, 2000.0])
def test_exact_interval_of_questions_about_few_images_is_korn_and_graubards(scale):
    generator = np.random.default_rng(3)
    images = np.repeat(np.arange(9), 7)
    values = (generator.random(63) < generator.beta(4, 2, 9)[images]) * scale
    error, mean = clustered_standard_error(values, images), values.mean() / scale
    ratio = stats.t.ppf(0.975, 62) / stats.t.ppf(0.975, 8)
    number = mean * (1 - mean) / (error / scale) ** 2 * 63 / 62 * ratio**2
    low = stats.beta.ppf(0.025, mean * number, number * (1 - mean) + 1)
    high = stats.beta.ppf(0.975, mean * number + 1, number * (1 - mean))
    found = interval_of(mean * scale, error, images, largest=scale)
    assert found.ends == pytest.approx((low * scale, high * scale))


@pytest.mark.parametrize("num_images", [4, 12, 25])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_interval_over_few_images_covers_the_truth(num_images, share):
    generator = np.random.default_rng(4)
    images = np.repeat(np.arange(num_images), 3)
    covered = 0
    for _ in range(400):
        difficulty = generator.beta(7 * share, 7 * (1 - share), num_images)
        values = (generator.random(len(images)) < difficulty[images]) * 1.0
        found = interval_of(values.mean(), clustered_standard_error(values, images), images)
        covered += found.low <= share <= found.high
    assert covered / 400 >= 0.93  # the normal one: 0.87 of 0.5 over 4 images


def test_single_cluster_has_no_interval():
    assert clustered_standard_error([1.0, 0.0], ["a", "a"]) is None
    assert confidence_interval([1.0, 0.0], ["a", "a"]) is None


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_unequal_or_empty_input_is_an_error(values, clusters):
    with pytest.raises(ValueError, match="of one length"):
        clustered_standard_error(values, clusters)


@pytest.mark.parametrize("num_clusters", [2, 7, MAX_JACKKNIFE_GROUPS])
def test_jackknife_of_a_mean_over_equal_clusters_is_the_clustered_formula(num_clusters):
    generator = np.random.default_rng(num_clusters)
    clusters = np.repeat([str(n) for n in range(num_clusters)], 5)
    values = generator.random(len(clusters)) + generator.random(num_clusters).repeat(5)
    got = jackknife_standard_error(lambda kept: values[kept].mean(), clusters)
    assert got == pytest.approx(clustered_standard_error(values, clusters), rel=1e-9)


@pytest.mark.parametrize(
    ("num_questions", "num_clusters", "tolerance"),
    [
        (500, 40, 0.05),
        (1_500, MAX_JACKKNIFE_GROUPS, 0.03),
        (8_910, 500, 0.12),
        (9_000, 3_000, 0.12),
    ],
)
def test_jackknife_of_a_mean_is_close_to_the_clustered_formula(
    num_questions, num_clusters, tolerance
):
    generator = np.random.default_rng(num_clusters)
    clusters = generator.integers(0, num_clusters, num_questions)
    values = (generator.random(num_questions) < generator.random(num_clusters)[clusters]) * 1.0
    got = jackknife_standard_error(lambda kept: values[kept].mean(), clusters)
    assert got == pytest.approx(clustered_standard_error(values, clusters), rel=tolerance)


def f1(said, is_so):
    hits = (said & is_so).sum()
    return 2 * hits / (said.sum() + is_so.sum())


@pytest.mark.parametrize(
    ("num_clusters", "num_simulated"),
    [(60, 1_000), pytest.param(500, 500, marks=pytest.mark.slow)],
)
def test_jackknife_interval_of_f1_covers_95_percent(num_clusters, num_simulated):
    generator = np.random.default_rng(7)

    def draw(number):
        """Six questions an image; images are harder or easier as a whole."""
        skill = generator.beta(4, 1, (number, 1))
        is_so = generator.random((number, 6)) < 0.5
        said = is_so ^ (generator.random((number, 6)) > skill)
        return said, is_so

    truth = f1(*draw(1_000_000))
    clusters = np.repeat(np.arange(num_clusters), 6)
    num_covered = 0
    for _ in range(num_simulated):
        said, is_so = (part.ravel() for part in draw(num_clusters))
        error = jackknife_standard_error(lambda kept: f1(said[kept], is_so[kept]), clusters)  # noqa: B023
        num_covered += abs(f1(said, is_so) - truth) <= Z_95 * error
    assert num_covered / num_simulated == pytest.approx(0.95, abs=0.02)


def test_jackknife_leaves_the_same_groups_out_whatever_the_order():
    generator = np.random.default_rng(3)
    clusters = np.array([f"{n}.jpg" for n in generator.integers(0, 900, 3_000)])
    values, order = generator.random(3_000), generator.permutation(3_000)
    got = jackknife_standard_error(lambda kept: np.median(values[kept]), clusters)
    shuffled = values[order]
    again = jackknife_standard_error(lambda kept: np.median(shuffled[kept]), clusters[order])
    assert again == got


@pytest.mark.parametrize(
    ("num_clusters", "expected"), [(3, 3), (MAX_JACKKNIFE_GROUPS, 200), (1_176, 200)]
)
def test_jackknife_leaves_every_question_out_once_in_at_most_200_steps(num_clusters, expected):
    left_out = []

    def compute(kept):
        left_out.append(~kept)
        return 0.0

    clusters = [str(n // 2) for n in range(2 * num_clusters)]
    assert jackknife_standard_error(compute, clusters) == 0.0
    assert len(left_out) == expected
    assert np.array_equal(np.sum(left_out, axis=0), np.ones(2 * num_clusters))
    assert all(np.array_equal(mask[::2], mask[1::2]) for mask in left_out)  # whole clusters
    sizes = [mask.sum() for mask in left_out]
    assert max(sizes) - min(sizes) <= 2  # at most one cluster more


def test_figure_that_needs_every_cluster_has_no_jackknife_error():
    clusters = ["a", "b", "c"]
    assert jackknife_standard_error(lambda kept: 1.0 if kept[0] else None, clusters) is None
    assert jackknife_standard_error(np.mean, ["a", "a"]) is None
    with pytest.raises(ValueError, match="at least one"):
        jackknife_standard_error(np.mean, [])
