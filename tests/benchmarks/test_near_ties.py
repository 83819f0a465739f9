"""The count of what near ties catch, and that its page says what was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from llava.generation.calibration import NUM_MEASURED
from llava.generation.neartie import NearTies
from llava.generation.request import Completion
from tests.benchmarks.near_ties import CHECKOUT, Answered, follow_rule, largest_change, run

PAGE = CHECKOUT / "docs" / "near_ties.md"
RUNS = json.loads((CHECKOUT / "results/bench/near-ties.json").read_text(encoding="utf-8"))["runs"]


def answered(margin: float, change: float, *, differs: bool = False) -> Answered:
    """A question whose answer of one token has these margins, packed and alone."""
    packed, sequential = (
        Completion(
            key="q",
            token_ids=(token,),
            text="",
            finish_reason="stop",
            num_prompt_tokens=1,
            min_margin=value,
            latency_s=0.0,
            margins=(value,),
        )
        for token, value in ((5, margin), (6 if differs else 5, abs(margin - change)))
    )
    return Answered(packed, (1.0,), sequential)


def test_threshold_decides_what_is_computed_again_and_what_stays() -> None:
    questions = [
        answered(0.25, 0.5, differs=True),
        answered(0.75, 0.1),
        answered(3.0, 0.1),
        answered(2.0, 2.5, differs=True),
    ]
    for threshold, share, flips in [(0.0, 0, 2), (0.5, 1 / 4, 1), (1.0, 2 / 4, 1), (4.0, 1.0, 0)]:
        point = follow_rule(questions, NearTies(torch.bfloat16, threshold=threshold))
        assert (point["share_replayed"], point["flips_after_replay"]) == (share, flips)


def test_rule_measures_some_and_does_not_count_what_it_measured() -> None:
    step = 2.0**-7  # of bfloat16 at a logit of 1
    wide = [answered(900 * step, step)] * 2000
    near = [answered(0.0, 0.0), answered(step, 2 * step, differs=True)]
    far = [answered(800 * step, 1700 * step, differs=True)]
    point = follow_rule([*wide, *near, *far], NearTies(torch.bfloat16))
    assert point["num_measured"] == NUM_MEASURED
    assert step < point["threshold"] * step < 100 * step
    assert point["share_replayed"] == pytest.approx(2 / (len(wide) + 3 - NUM_MEASURED))
    assert point["flips_after_replay"] == 1
    assert largest_change([*wide, *near, *far], torch.bfloat16) == pytest.approx(1700)


@pytest.mark.slow
def test_demo_questions_are_answered_in_both_ways() -> None:
    figures = run("float32", seed=0, num_images=1)
    assert figures["num_questions"] > 50
    assert figures["flips_without_replay"] == 0
    assert 0 < figures["largest_change"] < 1000


def rows(dtype: str) -> list[dict[str, Any]]:
    return [figures for figures in RUNS if figures["dtype"] == dtype]


def test_measured_runs_left_no_flip() -> None:
    for dtype in ("bfloat16", "float16"):
        assert [figures["seed"] for figures in rows(dtype)] == [0, 1, 2]
    assert all(figures["num_questions"] >= 5000 for figures in RUNS)
    assert all(figures["rule"]["flips_after_replay"] == 0 for figures in RUNS)
    for dtype, most in (("bfloat16", 0.004), ("float16", 0.001)):
        assert all(figures["rule"]["share_replayed"] <= most for figures in rows(dtype))


def test_page_says_what_was_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for figures in RUNS:
        rule = figures["rule"]
        cells = [figures["dtype"], figures["seed"], figures["flips_without_replay"]]
        cells += [f"{rule['threshold']:.3f}", f"{rule['share_replayed']:.2%}"]
        assert f"| {' | '.join(map(str, [*cells, rule['flips_after_replay']]))} |" in page
    for dtype in ("bfloat16", "float16"):
        changes = [figures["largest_change"] for figures in rows(dtype)]
        assert f"{min(changes):g} to {max(changes):g} steps in {dtype}" in page
    for number, point in enumerate(RUNS[0]["curve"]):
        line = [f"{point['threshold']:.3g}"]
        for dtype in ("bfloat16", "float16"):
            points = [figures["curve"][number] for figures in rows(dtype)]
            share = sum(each["share_replayed"] for each in points) / len(points)
            line += [f"{share:.2%}", str(sum(each["flips_after_replay"] for each in points))]
        assert f"| {' | '.join(line)} |" in page
