from __future__ import annotations

import json

import pytest

from evals.records import Cause


@pytest.mark.parametrize("cause", Cause)
def test_cause_is_written_as_its_value(cause: Cause) -> None:
    assert f"{cause}" == str(cause) == cause.value
    assert json.loads(json.dumps({cause: cause})) == {cause.value: cause.value}
