"""The padding that is told of real question files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llava.generation.plan import MAX_PADDED, Pack, Row
from llava.generation.request import Request
from runners.lab.bench.predicting import computed_over_useful

PLANS = Path(__file__).parents[2] / "results" / "bench" / "plans.json"


def row(prefix: int, *suffixes: int) -> Row:
    """Questions with so many ids of their own behind a prefix."""
    requests = (
        Request(key=f"{place}", prompt_ids=np.zeros(prefix + length, dtype=np.int32))
        for place, length in enumerate(suffixes)
    )
    return Row(requests=tuple(requests), prefix_length=prefix, image_tokens=0)


def test_padding_is_that_of_the_passes_of_each_pack() -> None:
    packs = [
        Pack(rows=(row(100, 10, 10), row(100, 18))),
        # too unlike to go through their prompts at once, so that nothing is padded
        Pack(rows=(row(100, 30), row(40, 3))),
    ]
    assert computed_over_useful(packs) == {
        "prefix": 1.0,
        "suffix": pytest.approx((2 * 20 + 33) / (38 + 33)),
    }


def test_real_question_files_are_hardly_padded() -> None:
    results = json.loads(PLANS.read_text(encoding="utf-8"))["results"]
    assert len(results) >= 7
    for result in results:
        assert result["num_questions"] >= 2000
        assert all(1 <= share <= MAX_PADDED for share in result["computed_over_useful"].values())
