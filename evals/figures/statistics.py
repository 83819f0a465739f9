"""The uncertainty of figures over questions that are not independent of each other.

Questions about one image share its difficulty, so the standard error is clustered by image. With
scores s_i, their mean m, n questions and G clusters g:

    SE^2 = G / (G - 1) * sum_g (sum_{i in g} (s_i - m))^2 / n^2

This is the cluster-robust variance of a regression on a constant (Cameron and Miller, "A
Practitioner's Guide to Cluster-Robust Inference", 2015, section II), applied to evaluations by
Miller, "Adding Error Bars to Evals", arXiv:2411.00640, equation 4. The factor G / (G - 1) is the
usual correction for few clusters; with every question its own cluster it gives the sample variance
with n - 1 over n. The interval is the normal one, m +- 1.96 SE.

Over fewer than 30 clusters the normal interval is too sure of itself: of a share of 90% over 4
clusters it covers the truth 78 to 83 times of 100. In the interval of a difference Student's
quantile stands there in the place of 1.96. For a share it is the exact binomial interval (Clopper
and Pearson, Biometrika 26, 1934) on n / D draws, at most n and at least the effective number of
clusters (below), with the design effect

    D = SE^2 (n - 1) / (m (1 - m)) * (t_{G - 1} / t_{n - 1})^2

and the quantiles t of Student's distribution (Korn and Graubard, "Confidence Intervals for
Proportions with Small Expected Number of Positive Counts Estimated from Survey Data", Survey
Methodology 24, 1998). With every question its own cluster it is the exact interval on n draws.

A figure that is no mean (an F1, a sum of shares, a ratio of means) has no such formula. Its
standard error is the jackknife's: with f_g the figure over all clusters but g, and f their mean,

    SE^2 = (G - 1) / G * sum_g (f_g - f)^2

(Efron and Stein, "The Jackknife Estimate of Variance", Annals of Statistics 9(3), 1981; over
clusters: MacKinnon, Nielsen and Webb, "Fast and reliable jackknife and bootstrap methods for
cluster-robust inference", Journal of Applied Econometrics 38(5), 2023). For the mean of clusters of
equal size it is the formula above. Of more than 200 clusters not one but a random group is left out
at a time (Wolter, "Introduction to Variance Estimation", 2nd edition, 2007, chapter 4).

Where all clusters agree, as when every answer is right, both errors are 0 (or unknown, with one
cluster), and say nothing about the next image. Of a share there stands the exact binomial interval
on the effective number of clusters, (sum_g n_g)^2 / sum_g n_g^2 (Kish, "Survey Sampling", 1965): 12
images, all right, leave 73.5% to 100% open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, stdtrit

Values = Sequence[float] | npt.NDArray[np.float64]
Clusters = Sequence[str] | npt.NDArray[Any]

Mask = npt.NDArray[np.bool_]

Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""
MAX_JACKKNIFE_GROUPS = 200
"""How often the jackknife computes a figure at most; its error is then known to 5%."""
NORMAL, EXACT = "normal", "binomial"
"""How an interval was computed: from the normal distribution, or exactly."""
MANY_CLUSTERS = 30
"""From so many on, a standard error over clusters is known well, by the usual rule."""
_NO_WIDTH = 1e-12  # of a standard error: the noise of sums in floating point


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95% interval, and how it was computed: `NORMAL` or `EXACT`."""

    low: float
    high: float
    method: str

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


def clustered_standard_error(values: Values, clusters: Clusters) -> float | None:
    """The standard error of the mean of the values; None with fewer than two clusters.

    Both hold one entry a question, in the same order.

    Raises:
        ValueError: the lengths differ, or there are no values.

    >>> clustered_standard_error([1.0, 0.0, 1.0, 0.0], ["a", "b", "c", "d"])  # sqrt(1/3 / 4)
    0.28867513459481287
    >>> clustered_standard_error([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    0.5
    """
    if len(values) != len(clusters) or len(values) == 0:
        raise ValueError(
            "`values` and `clusters` must be of one length and not empty, but have "
            f"{len(values)} and {len(clusters)} entries."
        )
    names, indices = np.unique(np.asarray(clusters), return_inverse=True)
    num_clusters = len(names)
    if num_clusters < 2:
        return None
    scores = np.asarray(values, dtype=np.float64)
    sums = np.bincount(indices, weights=scores - scores.mean())
    correction = num_clusters / (num_clusters - 1)
    return sqrt(correction * float(sums @ sums)) / len(values)


def confidence_interval(values: Values, clusters: Clusters) -> tuple[float, float] | None:
    """The 95% interval of the mean; arguments and errors as of `clustered_standard_error`.

    >>> low, high = confidence_interval([1.0, 0.0, 1.0, 0.0], ["a", "b", "c", "d"])
    >>> round(low, 4), round(high, 4)
    (-0.4187, 1.4187)
    """
    error = clustered_standard_error(values, clusters)
    if error is None:
        return None
    num_clusters = len(np.unique(np.asarray(clusters)))
    quantile = Z_95 if num_clusters >= MANY_CLUSTERS else _student(num_clusters - 1)
    center = float(np.mean(values))
    return center - quantile * error, center + quantile * error


def _student(degrees: int) -> float:
    """The 97.5% quantile of Student's distribution."""
    return float(stdtrit(degrees, 0.975))


def effective_clusters(clusters: Clusters) -> float:
    """The number of equally large clusters that tell as much as these.

    >>> effective_clusters(["a", "a", "b", "b"]), round(effective_clusters(["a"] * 9 + ["b"]), 2)
    (2.0, 1.22)
    """
    return _count_clusters(clusters)[1]


def _count_clusters(clusters: Clusters) -> tuple[int, float]:
    """How many clusters there are, and how many equally large ones tell as much."""
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    return len(sizes), float(sizes.sum()) ** 2 / float(sizes @ sizes)


def binomial_interval(share: float, number: float) -> tuple[float, float]:
    """The exact 95% interval of a share of so many draws, which need be no whole number.

    >>> low, high = binomial_interval(1.0, 12)
    >>> round(low, 4), high
    (0.7354, 1.0)
    """
    hits = min(max(share, 0.0), 1.0) * number
    misses, tail = number - hits, 0.025
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return low, high


def interval_of(
    value: float, error: float | None, clusters: Clusters, *, largest: float | None = 1.0
) -> Interval | None:
    """The 95% interval of a figure of 0..largest, given its standard error; never without width.

    It is exact where the error is none, and that of a share also over few clusters.

    Args:
        value: The figure.
        error: None where there is none because there is one cluster.
        clusters: One entry a question.
        largest: What it can be at most; None for no limit, and then None comes back where the
            error is none.

    >>> interval_of(1.0, 0.0, [str(n) for n in range(12)]).method
    'binomial'
    """
    num_clusters, number = _count_clusters(clusters)
    if error is not None and error > _NO_WIDTH:
        if largest is None or num_clusters >= MANY_CLUSTERS:
            low, high = value - Z_95 * error, value + Z_95 * error
            high = high if largest is None else min(largest, high)
            return Interval(low=max(0.0, low), high=high, method=NORMAL)
        if 0 < value < largest:
            draws = _draws(value / largest, error / largest, len(clusters), num_clusters)
            number = max(number, draws)
    if largest is None:
        return None
    low, high = binomial_interval(value / largest, number)
    return Interval(low=low * largest, high=high * largest, method=EXACT)


def _draws(share: float, error: float, num_questions: int, num_clusters: int) -> float:
    """How many independent draws tell as much about a share as so many questions in clusters."""
    ratio = _student(num_clusters - 1) / _student(num_questions - 1)
    effect = (error * ratio) ** 2 * (num_questions - 1) / (share * (1 - share))
    return num_questions / max(1.0, effect)


def difference_interval(changes: Values, clusters: Clusters) -> tuple[float, float] | None:
    """The 95% interval of a mean difference of shares; None with fewer than two clusters.

    Over fewer than 30 clusters it is as much wider as Student's quantile is larger. Where every
    cluster changed alike, or none at all, it is the exact one of how many would change.

    >>> low, high = difference_interval([0.0] * 12, [str(n) for n in range(12)])
    >>> round(low, 4), round(high, 4)
    (-0.2646, 0.2646)
    """
    normal = confidence_interval(changes, clusters)
    if normal is None:
        return None
    if normal[1] - normal[0] > _NO_WIDTH:
        return max(-1.0, normal[0]), min(1.0, normal[1])
    center = float(np.mean(changes))
    low, high = binomial_interval(abs(center), effective_clusters(clusters))
    if abs(center) <= _NO_WIDTH:
        return -high, high
    return (low, high) if center > 0 else (-high, -low)


def jackknife_standard_error(
    compute: Callable[[Mask], float | None], clusters: Clusters
) -> float | None:
    """The standard error of any smooth figure, by leaving out clusters.

    None with fewer than two clusters, or where the figure does not exist without one of them.
    `compute` gives the figure over the questions that a mask marks, None if it does not exist;
    `clusters` has the same order.

    Raises:
        ValueError: there are no questions.

    >>> values = np.array([1.0, 1.0, 0.0, 0.0])
    >>> jackknife_standard_error(lambda kept: values[kept].mean(), ["a", "a", "b", "b"])
    0.5
    """
    if len(clusters) == 0:
        raise ValueError("`clusters` must hold at least one entry, but is empty.")
    names, indices = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None
    groups = _deal(names)[indices]
    num_groups = int(groups.max()) + 1
    figures = [compute(groups != left_out) for left_out in range(num_groups)]
    known = np.array([figure for figure in figures if figure is not None], dtype=np.float64)
    if len(known) < num_groups:  # leaving out what cannot be computed would make it look surer
        return None
    residuals = known - known.mean()
    return sqrt((num_groups - 1) / num_groups * float(residuals @ residuals))


def _deal(names: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The group of each cluster: random, equally large, and the same whenever it is asked for."""
    # By digest, not by a seeded shuffle: a cluster more or less leaves the others' order alone.
    digests = [
        hashlib.sha256(str(name).encode("utf-8", "surrogatepass")).digest() for name in names
    ]
    order = sorted(range(len(names)), key=digests.__getitem__)
    groups = np.empty(len(names), dtype=np.intp)
    groups[order] = np.arange(len(names)) % MAX_JACKKNIFE_GROUPS
    return groups
