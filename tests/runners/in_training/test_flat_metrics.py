"""Metrics as a training logs them."""

from __future__ import annotations

from runners import flatten_metrics


def test_metrics_that_could_not_be_computed_are_left_out() -> None:
    summaries = {"gqa": {"metrics": {"accuracy": 0.5, "grounding": None}, "coverage": 1}}
    assert flatten_metrics(summaries, "test") == {
        "test/gqa/accuracy": 0.5,
        "test/gqa/coverage": 1.0,
    }
