"""Which packed answers are computed again."""

from __future__ import annotations

import math

import pytest
import torch

from llava.generation.calibration import (
    MEASURE_EVERY,
    NUM_MEASURED,
    Briefing,
    Calibration,
    count_margins,
)
from llava.generation.neartie import FLOAT32_THRESHOLD, NearTies, top_two
from llava.generation.request import Completion
from runners.workers.briefing import brief_each

SIXTEENTH = 2.0**-4
"""A step of bfloat16, which has 8 bits of precision, between 8 and 16."""


def answer(token_ids: list[int], margins: list[float]) -> Completion:
    return Completion(
        key="q",
        token_ids=tuple(token_ids),
        text="",
        finish_reason="length",
        num_prompt_tokens=1,
        min_margin=min(margins),
        latency_s=0.0,
        margins=tuple(margins),
    )


def learn(near_ties: NearTies, changes: list[float], top: float = 10.0) -> NearTies:
    """The same object after a question of one token for each change."""
    for change in changes:
        near_ties.measure(answer([5], [1.0]), [top], answer([5], [1.0 + change]), is_due=True)
    return near_ties


@pytest.mark.parametrize(
    ("margins", "replayed"),
    [([0.5, 0.2], False), ([0.5, FLOAT32_THRESHOLD / 2], True), ([FLOAT32_THRESHOLD], False)],
)
def test_float32_threshold_is_fixed_on_a_cpu(margins: list[float], replayed: bool) -> None:
    near_ties = NearTies(torch.float32)
    assert not near_ties.measures
    assert near_ties.must_replay(margins, [10.0] * len(margins)) is replayed
    assert not any(near_ties.note(margins, [10.0] * len(margins)) for _ in range(100))


def test_float32_is_measured_on_a_gpu_from_a_careful_beginning() -> None:
    near_ties = NearTies(torch.float32, device_type="cuda")
    assert near_ties.measures
    step = 2.0**3 * torch.finfo(torch.float32).eps
    assert near_ties.must_replay([1e-4], [10.0])
    assert not near_ties.must_replay([1e-2], [10.0])
    learn(near_ties, [2 * step] * 200)
    assert not near_ties.must_replay([1e-4], [10.0])


@pytest.mark.parametrize(("replay", "expected"), [("all", True), ("off", False)])
def test_replay_can_be_forced_or_left_out(replay: str, expected: bool) -> None:
    near_ties = NearTies(torch.bfloat16, replay=replay)
    assert near_ties.must_replay([0.0 if not expected else 9.0], [1.0]) is expected
    assert not any(near_ties.note([0.0], [1.0]) for _ in range(100))


def test_unknown_replay_is_refused() -> None:
    with pytest.raises(ValueError, match="`replay` must be one of"):
        NearTies(torch.float32, replay="sometimes")


def test_one_answer_in_twenty_is_due_until_there_are_enough() -> None:
    near_ties = NearTies(torch.bfloat16)
    near_ties.brief(brief_each(1, 10_000, Calibration()))
    due = []
    for _ in range(2 * NUM_MEASURED * MEASURE_EVERY):
        due.append(near_ties.note([9.0], [10.0]))
        if due[-1]:
            learn(near_ties, [0.0])
    assert sum(due) == NUM_MEASURED
    assert [number for number, is_due in enumerate(due, 1) if is_due][:3] == [20, 40, 60]


def test_measured_changes_decide_how_close_is_too_close() -> None:
    small, large = (learn(NearTies(torch.bfloat16), [steps * SIXTEENTH] * 100) for steps in (1, 8))
    for near_ties in (small, large):
        for _ in range(100):
            near_ties.note([5.0], [10.0])
    assert small.threshold < large.threshold
    between = (small.threshold + large.threshold) / 2 * SIXTEENTH
    assert not small.must_replay([between], [10.0])
    assert large.must_replay([between], [10.0])


def test_steps_are_those_at_the_largest_logit() -> None:
    near_ties = learn(NearTies(torch.bfloat16), [SIXTEENTH] * 100)
    margin = near_ties.threshold * SIXTEENTH
    assert near_ties.must_replay([margin * 0.99], [10.0])
    assert not near_ties.must_replay([margin * 1.01], [10.0])
    assert near_ties.must_replay([margin * 1.99], [20.0])
    assert not near_ties.must_replay([margin * 2.01], [20.0])


def test_logit_that_is_nearly_zero_has_no_tiny_steps() -> None:
    near_ties = NearTies(torch.bfloat16)
    assert near_ties.must_replay([20.0, 0.05], [16.0, 0.001])
    assert not near_ties.must_replay([20.0, 0.05], [0.002, 0.001])
    assert near_ties.must_replay([0.0], [0.0])


def test_a_flip_counts_with_both_margins_and_ends_the_comparison() -> None:
    near_ties = NearTies(torch.float16)
    tops = [10.0, 10.0]
    near_ties.measure(answer([5, 9], [0.1, 7.0]), tops, answer([6, 1], [0.2, 1.0]), is_due=False)
    step = 2.0**3 * torch.finfo(torch.float16).eps
    assert near_ties.calibration.largest_changes == (pytest.approx(0.3 / step),)
    assert near_ties.calibration.num_changes == 1
    assert near_ties.calibration.num_measured == 0


def test_changes_that_are_no_numbers_are_not_learnt() -> None:
    near_ties = NearTies(torch.float16)
    near_ties.measure(answer([5], [math.nan]), [10.0], answer([5], [1.0]), is_due=True)
    assert near_ties.calibration == Calibration(num_measured=1)


def test_distance_from_what_a_nucleus_rules_out_is_not_learnt() -> None:
    near_ties = NearTies(torch.bfloat16)
    _, [top], [alone_in_it] = top_two(torch.tensor([[10.0, -torch.inf, -torch.inf]]))
    for margins in ([alone_in_it], [2.0]), ([2.0], [alone_in_it]):
        near_ties.measure(answer([5], margins[0]), [top], answer([5], margins[1]), is_due=True)
    near_ties.measure(answer([5], [alone_in_it]), [top], answer([6], [2.0]), is_due=False)
    assert near_ties.calibration.num_measured == 2
    assert near_ties.calibration.num_changes == 0


def test_numbers_that_are_lost_are_computed_again() -> None:
    for replay in ("near_ties", "off"):
        assert NearTies(torch.float16, replay=replay).must_replay([9.0], [math.inf])
        assert NearTies(torch.float16, replay=replay).must_replay([math.nan], [9.0])


def test_given_threshold_overrides_the_rule() -> None:
    near_ties = NearTies(torch.float16, threshold=0.5)
    assert not near_ties.measures
    assert near_ties.must_replay([0.4], [100.0])
    assert not near_ties.must_replay([0.6], [100.0])


def test_what_others_have_seen_decides_and_is_not_reported_as_own() -> None:
    others = learn(NearTies(torch.bfloat16), [8 * SIXTEENTH] * 100).calibration
    others = others.merged(Calibration(num_answers=100, margins=count_margins([80.0] * 100)))
    near_ties = learn(NearTies(torch.bfloat16), [0.0])
    before = near_ties.threshold
    near_ties.brief(Briefing(known=others))
    assert near_ties.threshold > before
    assert near_ties.calibration == learn(NearTies(torch.bfloat16), [0.0]).calibration


def test_bound_on_flips_is_kept_by_the_rule() -> None:
    careful, careless = (
        learn(NearTies(torch.bfloat16, max_expected_flips=bound), [SIXTEENTH] * 100)
        for bound in (1e-6, 1.0)
    )
    assert careful.threshold > careless.threshold


def test_fixed_thresholds_do_not_change_by_what_is_known() -> None:
    for near_ties in (NearTies(torch.float32), NearTies(torch.float16, threshold=0.5)):
        before = near_ties.threshold
        near_ties.brief(Briefing(known=Calibration(num_changes=500, largest_changes=(9.0,))))
        assert near_ties.threshold == before
