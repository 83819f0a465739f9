"""Two models on the same questions: how much one differs from the other, and whether by chance.

The difference of a question is the candidate's score less the baseline's. Where nothing
distinguishes the models, each difference is as likely as its negative, for all questions of an
image together, because they are not independent. The p values come from that symmetry alone,
without any assumption about how the differences are distributed:

- one question a cluster and scores of 0 and 1: McNemar's exact test, which asks whether the
  questions lost and gained are halves of a binomial (McNemar, Psychometrika 12, 1947);
- otherwise a sign-flip permutation test over the sums of the clusters (Fisher's randomization test;
  Winkler et al., "Permutation inference for the general linear model", NeuroImage 92, 2014).

Both are two-sided. Several tasks are one family, adjusted by Holm's step-down procedure (Holm,
Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log2, sqrt

import numpy as np
import numpy.typing as npt
from scipy import stats

from evals.figures.statistics import (
    MANY_CLUSTERS,
    Clusters,
    Values,
    clustered_standard_error,
    difference_interval,
    effective_clusters,
)

NUM_DRAWS = 100_000
"""Draws of the permutation test where the exact distribution is out of reach."""

_MAX_ENUMERATED = 14  # values, of which all 16,384 ways to set the signs are tried
_SIGNS_AT_A_TIME = 1 << 22  # 32 MiB of them
_LATTICES = (1, 10, 30, 100, 300)  # thirds, tenths and their products: all exact scorers' steps
_MAX_LATTICE = 1 << 20
_NOISE = 1e-9  # of sums in floating point; no scorer has differences so small

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """A candidate against a baseline on one set of questions.

    Attributes:
        num_questions: Questions compared.
        num_clusters: Images, or whatever makes questions depend on each other.
        effective_clusters: The number of equally large clusters that tell as much.
        changed_clusters: Clusters in which a score changed.
        baseline: The baseline's mean score.
        candidate: The candidate's.
        difference: `candidate - baseline`.
        standard_error: Of the difference, clustered; None with fewer than two clusters.
        interval: The 95% interval of the difference; None with fewer than two clusters.
        p: Two-sided, of the hypothesis that nothing distinguishes the two.
        gained: Questions that the candidate scores higher.
        lost: Questions that it scores lower.
    """

    num_questions: int
    num_clusters: int
    effective_clusters: float
    changed_clusters: int
    baseline: float
    candidate: float
    difference: float
    standard_error: float | None
    interval: tuple[float, float] | None
    p: float
    gained: int
    lost: int


def compare_paired(
    baseline: Values, candidate: Values, clusters: Clusters, *, seed: int = 0
) -> PairedComparison:
    """The candidate against the baseline: scores of each question, 0..1, and its cluster.

    `seed` is that of the permutation test, where it draws.

    Raises:
        ValueError: the lengths differ, or there are no questions.

    >>> comparison = compare_paired([1, 1, 1, 0], [0, 0, 1, 0], ["a", "b", "c", "d"])
    >>> comparison.difference, comparison.lost, comparison.gained, comparison.p
    (-0.5, 2, 0, 0.5)
    """
    before = np.asarray(baseline, dtype=np.float64)
    after = np.asarray(candidate, dtype=np.float64)
    if not len(before) == len(after) == len(clusters) or len(before) == 0:
        raise ValueError(
            "`baseline`, `candidate` and `clusters` must be of one length and not empty, but have "
            f"{len(before)}, {len(after)} and {len(clusters)} entries."
        )
    changes = after - before
    changes[np.abs(changes) < _NOISE] = 0.0
    names, indices = np.unique(np.asarray(clusters), return_inverse=True)
    gained, lost = int(np.count_nonzero(changes > 0)), int(np.count_nonzero(changes < 0))
    if len(names) == len(changes) and np.isin(changes, (-1.0, 0.0, 1.0)).all():
        p = mcnemar_p(gained, lost)
    else:
        sums: Floats = np.bincount(indices, weights=changes).astype(np.float64)
        p = sign_flip_p(sums, seed=seed)
    return PairedComparison(
        num_questions=len(changes),
        num_clusters=len(names),
        effective_clusters=effective_clusters(indices),
        changed_clusters=len(np.unique(indices[changes != 0])),
        baseline=float(before.mean()),
        candidate=float(after.mean()),
        difference=float(changes.mean()),
        standard_error=clustered_standard_error(changes, indices),
        interval=difference_interval(changes, indices),
        p=p,
        gained=gained,
        lost=lost,
    )


def mcnemar_p(num_gained: int, num_lost: int) -> float:
    """The two-sided p of McNemar's exact test; 1 if nothing changed.

    >>> mcnemar_p(1, 9)  # 2 * (1 + 10) / 2 ** 10
    0.021484375
    >>> mcnemar_p(0, 0)
    1.0
    """
    smaller, total = min(num_gained, num_lost), num_gained + num_lost
    return min(1.0, 2 * float(stats.binom.cdf(smaller, total, 0.5)))


def sign_flip_p(
    sums: Sequence[float] | Floats, *, seed: int = 0, num_draws: int = NUM_DRAWS
) -> float:
    """The two-sided p of the sign-flip test: how often random signs give a sum as large.

    Exact, to about 1e-12, wherever the sums are multiples of a common fraction, as those of all
    exact scorers are, and wherever there are few of them. Otherwise the share of random draws, of
    which the observed sum is one, so that the p is never too small.

    `sums` are those of the differences in each cluster; `seed` and `num_draws` are for the draws.

    >>> sign_flip_p([-1.0, -2.0, -3.0])  # 2 of the 8 ways to set the signs
    0.25
    >>> sign_flip_p([0.0, 0.0])
    1.0
    """
    values = np.asarray(sums, dtype=np.float64)
    values = values[np.abs(values) > _NOISE]
    if len(values) == 0:
        return 1.0
    steps = _on_lattice(values)
    if steps is not None:
        return _lattice_p(steps)
    observed = abs(values.sum()) - _NOISE
    signs = _signs(len(values), num_draws, seed)
    reached = sum(int(np.count_nonzero(np.abs(part @ values) >= observed)) for part in signs)
    if len(values) <= _MAX_ENUMERATED:
        return float(reached / 2 ** len(values))
    return float((reached + 1) / (num_draws + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """The adjusted p values of a family of tests, in the same order.

    Holding them against alpha keeps the chance of any false alarm in the family below alpha.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_difference(
    comparison: PairedComparison, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest true drop that a two-sided test at alpha finds with the given power.

    (z(1 - alpha / 2) + z(power)) SE, the usual normal approximation; the chance to find a
    difference of the wrong sign is left out. Where scores changed in too few clusters for it, the
    drop is at least the share of the effective clusters that has to be lost, and none gained, until
    the exact test finds it with that power. None with fewer than two clusters, or where the test
    would find nothing, were all of them lost.
    """
    if comparison.standard_error is None:
        return None
    quantiles = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    usual = float(quantiles) * comparison.standard_error
    if comparison.changed_clusters >= MANY_CLUSTERS:
        return usual
    fewest = floor(1 - log2(alpha)) + 1  # with one less, 2 / 2 ** fewest is not below alpha
    number = comparison.effective_clusters
    if fewest > number:
        return None
    return max(usual, float(stats.beta.ppf(power, fewest, number - fewest + 1)))


def drop_bound(comparison: PairedComparison, *, alpha: float = 0.05) -> float | None:
    """The largest drop that the data leave open: the upper (1 - alpha) bound of the true drop.

    Where few answers flip, the usual normal bound is too sure of itself: with none at all it says
    that the drop is 0, after however few questions. This is Wilson's score bound of a proportion
    (Journal of the American Statistical Association 22, 1927), with the clustered variance of the
    differences in place of the binomial one. n is the number of questions or, where too few images
    changed to tell how changes come, of effective clusters: they may come by whole images. With one
    question a cluster and losses alone it is Wilson's own; without any flip it is t^2 / (n + t^2);
    with many it becomes the usual one. t is the quantile of Student's distribution for so many
    clusters. It is at most 1; None with fewer than two clusters.
    """
    if comparison.standard_error is None:
        return None
    t = float(stats.t.ppf(1 - alpha, comparison.num_clusters - 1))
    is_told = comparison.changed_clusters >= MANY_CLUSTERS
    squared = t * t
    number = comparison.num_questions if is_told else comparison.effective_clusters
    spread = sqrt((comparison.standard_error * number) ** 2 + squared / 4)
    upper = squared / 2 - comparison.difference * number + t * spread
    return min(1.0, upper / (number + squared))


def _on_lattice(values: Floats) -> npt.NDArray[np.int64] | None:
    """The values as whole multiples of a fraction, if they are such and not too large."""
    for steps_per_unit in _LATTICES:
        scaled = values * steps_per_unit
        steps = np.rint(scaled)
        if np.abs(steps).sum() > _MAX_LATTICE:
            return None
        if np.allclose(scaled, steps, rtol=0, atol=1e-6):
            return steps.astype(np.int64)
    return None


def _lattice_p(steps: npt.NDArray[np.int64]) -> float:
    """The exact p of whole numbers, through the characteristic function of their signed sum.

    A number m with a random sign has the characteristic function cos(m x), a sum of such numbers
    the product of theirs; the Fourier transform of the product is the distribution of the sum.
    """
    observed, reach = abs(int(steps.sum())), int(np.abs(steps).sum())
    if observed == 0:
        return 1.0
    size = 1 << (2 * reach + 1).bit_length()
    frequencies = 2 * np.pi / size * np.arange(size // 2 + 1)
    product = np.ones_like(frequencies)
    for magnitude, count in zip(*np.unique(np.abs(steps), return_counts=True), strict=True):
        product *= np.cos(magnitude * frequencies) ** count
    # [t] is the probability of the sum t; the function is even, so -t is as likely
    probabilities = np.fft.irfft(product, size)
    tail = 2 * float(probabilities[observed : reach + 1].sum())
    least = 2.0 ** max(1 - len(steps), -1000)  # all signs as observed, or all turned around
    return min(1.0, max(least, tail))


def _signs(num_values: int, num_draws: int, seed: int) -> Iterator[Floats]:
    """All ways to set few signs, else random ones, as (ways, num_values) for a part at a time."""
    if num_values <= _MAX_ENUMERATED:
        patterns = np.arange(2**num_values)[:, None] >> np.arange(num_values) & 1
        yield (1 - 2 * patterns).astype(np.float64)
        return
    generator = np.random.default_rng(seed)
    part = max(1, _SIGNS_AT_A_TIME // num_values)
    for start in range(0, num_draws, part):
        shape = (min(part, num_draws - start), num_values)
        yield (1 - 2 * generator.integers(0, 2, shape, dtype=np.int8)).astype(np.float64)
