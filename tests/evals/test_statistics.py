from math import sqrt

import numpy as np
import pytest
import statsmodels.api as sm

from evals.statistics import clustered_standard_error, confidence_interval


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
        cov_type="cluster", cov_kwds={"groups": clusters}
    )
    got = clustered_standard_error(values, [str(c) for c in clusters])
    assert got == pytest.approx(fitted.bse[0], abs=1e-9, rel=1e-9)
    low, high = confidence_interval(values, [str(c) for c in clusters])
    assert (low, high) == pytest.approx(tuple(fitted.conf_int()[0]), abs=1e-9)


def test_interval_is_centered_on_the_mean():
    low, high = confidence_interval([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "c"])
    error = clustered_standard_error([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "c"])
    assert (low + high) / 2 == pytest.approx(0.75)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=1e-4)


def test_single_cluster_has_no_interval():
    assert clustered_standard_error([1.0, 0.0], ["a", "a"]) is None
    assert confidence_interval([1.0, 0.0], ["a", "a"]) is None


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_unequal_or_empty_input_is_an_error(values, clusters):
    with pytest.raises(ValueError, match="of one length"):
        clustered_standard_error(values, clusters)
