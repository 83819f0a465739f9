"""What an engine gives, as a run records it."""

from __future__ import annotations

import pytest

from evals.records import Cause, Failure
from llava.generation.request import FailureCause, ImageProbe, RequestFailure
from runners.workers.interface import from_engine


@pytest.mark.parametrize("cause", FailureCause)
def test_failures_keep_key_cause_and_message(cause: FailureCause) -> None:
    failure = from_engine(RequestFailure(key="1", cause=cause, message="why"))
    assert failure == Failure(key="1", cause=cause.value, message="why")
    assert isinstance(failure.cause, Cause)


def test_results_stay_as_they_are() -> None:
    probe = ImageProbe(key="1", logit_change=0.5, is_finite=True, text="a", blank_text="b")
    assert from_engine(probe) is probe


def test_engine_must_not_make_up_a_cause() -> None:
    with pytest.raises(ValueError, match="made_up"):
        from_engine(RequestFailure(key="1", cause="made_up", message=""))  # type: ignore[arg-type]
