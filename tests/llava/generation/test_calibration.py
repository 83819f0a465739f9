"""What has been seen of margins, and the threshold that follows for a whole run."""

from __future__ import annotations

import math
import random

import pytest

from llava.generation.calibration import (
    EDGES,
    NUM_LARGEST,
    Calibration,
    count_margins,
)


def seen(changes: list[float], margins: list[float], num_answers: int | None = None) -> Calibration:
    """What answers of one token each have shown."""
    return Calibration(
        num_changes=len(changes),
        largest_changes=tuple(sorted(changes, reverse=True)[:NUM_LARGEST]),
        num_answers=len(margins) if num_answers is None else num_answers,
        margins=count_margins(margins),
    )


def expected_flips(margins: list[float], threshold: float, scale: float) -> float:
    """How many tokens with these margins change, if changes have an exponential distribution."""
    kept = (margin for margin in margins if margin >= threshold)
    return sum(math.exp(-margin / scale) / 2 for margin in kept)


def test_every_margin_is_in_the_class_of_its_edge() -> None:
    for number, edge in enumerate(EDGES):
        counts = count_margins([edge, edge * 1.0001])
        assert counts[number] == 2
        assert sum(counts) == 2
    assert count_margins([math.inf])[-1] == 1


def test_merging_in_any_order_gives_the_same() -> None:
    rng = random.Random(0)
    parts = [
        seen([rng.expovariate(2) for _ in range(50)], [rng.expovariate(0.1) for _ in range(30)])
        for _ in range(4)
    ]
    forth = parts[0].merged(parts[1]).merged(parts[2]).merged(parts[3])
    back = parts[3].merged(parts[2].merged(parts[1])).merged(parts[0])
    assert forth == back
    assert forth.num_changes == 200
    assert forth.num_answers == sum(forth.margins) == 120
    assert len(forth.largest_changes) == NUM_LARGEST


def test_what_another_version_counted_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="`margins` must hold 28 numbers"):
        Calibration(margins=(1, 2, 3))


def test_scale_bounds_every_change_that_was_seen() -> None:
    rng = random.Random(1)
    for _ in range(20):
        changes = sorted((rng.expovariate(1 / 3) ** 1.5 for _ in range(400)), reverse=True)
        scale = seen(changes, []).scale(prior=1.0)
        for rank, change in enumerate(changes[:NUM_LARGEST], 1):
            assert math.exp(-change / scale) >= rank / 401 * (1 - 1e-9)


def test_scale_of_exponential_changes_is_about_theirs() -> None:
    rng = random.Random(2)
    scales = [seen([rng.expovariate(1 / 5) for _ in range(300)], []).scale(1.0) for _ in range(100)]
    assert 5 < sum(scales) / len(scales) < 7.5


def test_few_changes_leave_the_prior() -> None:
    assert seen([0.0] * 49, []).scale(prior=3.0) == 3.0
    assert seen([0.0] * 50, []).scale(prior=3.0) < 0.5


def test_no_change_at_all_still_expects_one_of_a_step() -> None:
    few, many = (seen([0.0] * number, []).scale(1.0) for number in (100, 10_000))
    assert few == pytest.approx(1 / math.log(101))
    assert many == pytest.approx(1 / math.log(10_001))


def test_threshold_keeps_the_expected_flips_within_the_bound() -> None:
    rng = random.Random(3)
    for scale in (0.3, 2.0, 20.0):
        margins = [rng.uniform(0, 400) for _ in range(5000)]
        calibration = seen([rng.expovariate(1 / scale) for _ in range(400)], margins)
        threshold = calibration.threshold(5000, 0.01, prior=1.0)
        assert threshold in EDGES
        assert expected_flips(margins, threshold, scale) < 0.01
        # and not by recomputing far more than that takes
        assert expected_flips(margins, threshold / 4, scale) > 0.01


def test_threshold_grows_with_the_run_and_falls_with_the_bound() -> None:
    rng = random.Random(4)
    calibration = seen(
        [rng.expovariate(1.0) for _ in range(300)], [rng.uniform(0, 50) for _ in range(300)]
    )
    by_size = [calibration.threshold(number, 0.01, 1.0) for number in (300, 10_000, 1_000_000)]
    by_bound = [calibration.threshold(10_000, bound, 1.0) for bound in (1e-6, 0.01, 10.0, 1e9)]
    assert by_size == sorted(by_size)
    assert by_size[0] < by_size[-1]
    assert by_bound == sorted(by_bound, reverse=True)
    assert by_bound[0] > by_bound[1] > by_bound[2] > by_bound[3] == 0


def test_nothing_seen_gives_a_careful_threshold() -> None:
    assert 4 < Calibration().threshold(40, 0.01, prior=1.0) < math.inf
    assert Calibration().threshold(40, 0.01, prior=1.0) < Calibration().threshold(
        40, 0.01, prior=64.0
    )


def test_wide_changes_leave_nothing_unchecked() -> None:
    assert seen([1e6] * 200, [5.0] * 200).threshold(1000, 0.01, 1.0) == math.inf
