from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from llava.generation.calibration import Calibration, count_margins
from llava.generation.request import EngineReport, Stage
from runners.evaluation.provenance import SessionTiming, Timing, near_tie_rule
from tests.runners.task_runs import ENVIRONMENT

MEASURED = Calibration(
    num_measured=3,
    num_changes=9,
    largest_changes=(2.0, 0.5),
    num_answers=60,
    margins=count_margins([1.0, 8.0]),
)
HERE = replace(ENVIRONMENT, machine={"versions": {"torch": "2.8"}})
BEFORE = EngineReport(
    num_halvings=1, waited_s=1.0, busy_s=5.0, replay_s=2.0, prefix=Stage(seconds=0.5)
)
SHARES = [f"{name}_share" for name in ("waited", "replay", "encode", "prefix", "suffix", "decode")]


def stored(calibration: Calibration, **changes: object) -> dict[str, object]:
    rule = near_tie_rule(EngineReport(calibration=calibration, threshold=0.5))
    content = HERE.to_json() | {"near_ties": rule} | changes
    return json.loads(json.dumps(content))


def test_calibration_is_known_again() -> None:
    assert HERE.measured_before(stored(MEASURED)) == MEASURED


@pytest.mark.parametrize(
    "near_ties",
    [None, {}, {"num_questions": 200, "largest_change": 0.5}, {**asdict(MEASURED), "margins": [1]}],
)
def test_nothing_measured_is_no_calibration(near_ties: object) -> None:
    assert HERE.measured_before(stored(MEASURED, near_ties=near_ties)) is None
    assert HERE.measured_before(HERE.to_json()) is None


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"command": "python -m runners.eval", "num_workers": 8}, MEASURED),
        ({"device_name": "NVIDIA H200"}, None),
        ({"versions": {"torch": "2.0"}}, None),
        ({"attention": "eager"}, None),
    ],
)
def test_calibration_counts_on_the_same_device_and_software(
    change: dict[str, object], known: Calibration | None
) -> None:
    assert HERE.measured_before(stored(MEASURED, **change)) == known


def test_timing_tells_what_is_known() -> None:
    timing = Timing(num_asked=9, wall_s=2.0)
    assert timing.to_json() == {"num_asked": 9, "wall_s": 2.0, "questions_per_s": 4.5}


@pytest.mark.parametrize(
    ("after", "figures"),
    [
        (
            EngineReport(
                num_halvings=3, waited_s=2.0, busy_s=8.0, replay_s=4.0, prefix=Stage(seconds=1.5)
            ),
            {"num_halvings": 2, "waited_share": 0.25, "replay_share": 0.5, "prefix_share": 0.25},
        ),
        (BEFORE, {"num_halvings": 0} | dict.fromkeys(SHARES)),
    ],
)
def test_shares_are_of_the_engines_time_since_the_task_began(
    after: EngineReport, figures: dict[str, object]
) -> None:
    timing = SessionTiming(
        num_asked=9, wall_s=2.0, before=BEFORE, after=after, load_s=1.23456, first_answer_s=None
    )
    times = {"num_asked": 9, "wall_s": 2.0, "questions_per_s": 4.5, "load_s": 1.235}
    shares = dict.fromkeys(SHARES, 0.0)
    assert timing.to_json() == times | shares | figures | {"first_answer_s": None}
