"""The uncertainty of a mean over questions that are not independent of each other.

Questions about one image share its difficulty, so the standard error is clustered by image. With
scores s_i, their mean m, n questions and G clusters g:

    SE^2 = G / (G - 1) * sum_g (sum_{i in g} (s_i - m))^2 / n^2

This is the cluster-robust variance of a regression on a constant (Cameron and Miller, "A
Practitioner's Guide to Cluster-Robust Inference", 2015, section II), applied to evaluations by
Miller, "Adding Error Bars to Evals", arXiv:2411.00640, equation 4. The factor G / (G - 1) is the
usual correction for few clusters; with every question its own cluster it gives the sample variance
with n - 1 over n. The interval is the normal one, m +- 1.96 SE.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Values = Sequence[float] | npt.NDArray[np.float64]
Clusters = Sequence[str] | npt.NDArray[Any]

Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


def clustered_standard_error(values: Values, clusters: Clusters) -> float | None:
    """The standard error of the mean of the values; None with fewer than two clusters.

    Args:
        values: One value a question.
        clusters: The cluster of each question, in the same order.

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
    residuals = np.asarray(values, dtype=np.float64)
    residuals = residuals - residuals.mean()
    sums = np.bincount(indices, weights=residuals, minlength=num_clusters)
    correction = num_clusters / (num_clusters - 1)
    return sqrt(correction * float(sums @ sums)) / len(values)


def confidence_interval(values: Values, clusters: Clusters) -> tuple[float, float] | None:
    """The 95% interval of the mean; None with fewer than two clusters.

    Args:
        values: One value a question.
        clusters: The cluster of each question, in the same order.

    Raises:
        ValueError: the lengths differ, or there are no values.

    >>> low, high = confidence_interval([1.0, 0.0, 1.0, 0.0], ["a", "b", "c", "d"])
    >>> round(low, 4), round(high, 4)
    (-0.0658, 1.0658)
    """
    error = clustered_standard_error(values, clusters)
    if error is None:
        return None
    center = float(np.mean(values))
    return center - Z_95 * error, center + Z_95 * error
