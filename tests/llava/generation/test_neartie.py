"""Which packed answers are computed again."""

from __future__ import annotations

import pytest
import torch

from llava.generation.neartie import FLOAT32_THRESHOLD, NearTies
from llava.generation.request import NUM_CALIBRATION_QUESTIONS, Calibration


def measured(near_ties: NearTies, changes: list[float]) -> NearTies:
    """The same object after one question for each change."""
    for change in changes:
        near_ties.measure(([5], [1.0]), ([5], [1.0 + change]))
    return near_ties


@pytest.mark.parametrize(
    ("margins", "replayed"),
    [([0.5, 0.2], False), ([0.5, FLOAT32_THRESHOLD / 2], True), ([FLOAT32_THRESHOLD], False)],
)
def test_float32_threshold_is_fixed(margins: list[float], replayed: bool) -> None:
    near_ties = NearTies(torch.float32)
    assert not near_ties.is_calibrating
    assert near_ties.must_replay(margins, [10.0] * len(margins)) is replayed


@pytest.mark.parametrize(("replay", "expected"), [("all", True), ("off", False)])
def test_replay_can_be_forced_or_left_out(replay: str, expected: bool) -> None:
    near_ties = NearTies(torch.bfloat16, replay=replay)
    assert near_ties.must_replay([0.0 if not expected else 9.0], [1.0]) is expected


def test_unknown_replay_is_refused() -> None:
    with pytest.raises(ValueError, match="`replay` must be one of"):
        NearTies(torch.float32, replay="sometimes")


def test_short_formats_answer_in_both_ways_until_measured() -> None:
    near_ties = NearTies(torch.bfloat16)
    for _ in range(NUM_CALIBRATION_QUESTIONS):
        assert near_ties.is_calibrating
        assert near_ties.must_replay([50.0], [60.0])
        near_ties.measure(([5], [0.50]), ([5], [0.75]))
    assert not near_ties.is_calibrating
    assert near_ties.threshold == pytest.approx(4 * 0.25)
    assert near_ties.must_replay([0.9], [0.5])
    assert not near_ties.must_replay([1.1], [0.5])


def test_threshold_is_at_least_two_steps_of_the_lattice() -> None:
    near_ties = NearTies(torch.bfloat16)
    for _ in range(NUM_CALIBRATION_QUESTIONS):
        near_ties.measure(([5], [0.5]), ([5], [0.5]))
    # bfloat16 has 8 bits of precision: between 16 and 32 its values lie 1/8 apart
    assert near_ties.must_replay([0.24], [20.0])
    assert not near_ties.must_replay([0.26], [20.0])


def test_a_flip_counts_with_both_margins_and_ends_the_comparison() -> None:
    near_ties = NearTies(torch.float16)
    near_ties.measure(([5, 9], [0.1, 7.0]), ([6, 1], [0.2, 1.0]))
    assert near_ties.threshold == pytest.approx(4 * 0.3)


def test_given_threshold_overrides_the_rule() -> None:
    near_ties = NearTies(torch.float16, threshold=0.5)
    assert not near_ties.is_calibrating
    assert near_ties.must_replay([0.4], [100.0])
    assert not near_ties.must_replay([0.6], [100.0])


def test_merging_adds_counts_and_keeps_the_largest_change() -> None:
    workers = [
        measured(NearTies(torch.bfloat16), changes).calibration
        for changes in ([0.5, 0.125], [0.25] * 3, [])
    ]
    together = workers[0].merged(workers[1]).merged(workers[2])
    assert together == Calibration(num_questions=5, largest_change=0.5)
    assert workers[2].merged(workers[1]).merged(workers[0]) == together


def test_two_workers_measure_in_half_the_questions() -> None:
    half = NUM_CALIBRATION_QUESTIONS // 2
    first = measured(NearTies(torch.bfloat16), [0.5] * half)
    second = measured(NearTies(torch.bfloat16), [0.25] * half)
    together = first.calibration.merged(second.calibration)
    for near_ties in (first, second):
        assert near_ties.is_calibrating
        near_ties.adopt(together)
        assert not near_ties.is_calibrating
        assert near_ties.threshold == pytest.approx(4 * 0.5)


def test_what_was_adopted_is_not_reported_as_measured() -> None:
    near_ties = measured(NearTies(torch.bfloat16), [0.5])
    near_ties.adopt(Calibration(num_questions=150, largest_change=1.0))
    assert near_ties.is_calibrating
    measured(near_ties, [0.25])
    assert near_ties.calibration == Calibration(num_questions=2, largest_change=0.5)


def test_adopting_again_replaces_and_never_adds() -> None:
    near_ties = NearTies(torch.bfloat16)
    for num_questions in (120, 150, NUM_CALIBRATION_QUESTIONS - 1):
        near_ties.adopt(Calibration(num_questions=num_questions, largest_change=0.5))
        assert near_ties.is_calibrating
    near_ties.adopt(Calibration(num_questions=NUM_CALIBRATION_QUESTIONS, largest_change=0.5))
    assert not near_ties.is_calibrating


def test_adopted_threshold_decides_as_a_measured_one() -> None:
    alone = measured(NearTies(torch.bfloat16), [0.25] * NUM_CALIBRATION_QUESTIONS)
    adopted = NearTies(torch.bfloat16)
    adopted.adopt(alone.calibration)
    for margin, top in [(0.99, 0.5), (1.01, 0.5), (0.99, 100.0), (1.01, 100.0)]:
        assert adopted.must_replay([margin], [top]) is alone.must_replay([margin], [top])


def test_fixed_thresholds_do_not_change_by_adopting() -> None:
    for near_ties in (NearTies(torch.float32), NearTies(torch.float16, threshold=0.5)):
        before = near_ties.threshold
        near_ties.adopt(Calibration(num_questions=500, largest_change=9.0))
        assert near_ties.threshold == before
