from __future__ import annotations

import pytest

from tests.benchmarks.parent_cost import resumed_run, whole_run, write_gqa, write_vqav2

PARTS = {"read", "open", "render", "deal", "receive", "store", "score", "summary"}


@pytest.mark.slow
def test_every_part_of_a_run_is_counted() -> None:
    for write in (write_gqa, write_vqav2):
        found = whole_run(write, 40, pause_s=0.0)
        assert found["ms_per_question_by_part"].keys() == PARTS
        assert all(found["ms_per_question_by_part"].values())
        assert 0 < found["start_up_s"] < found["cpu_s"]


@pytest.mark.slow
def test_stored_answers_are_those_of_the_run_that_goes_on() -> None:
    found = resumed_run(40)
    assert "store" in found["with_pending"]["parts_s"]
    assert "store" not in found["all_stored"]["parts_s"]
