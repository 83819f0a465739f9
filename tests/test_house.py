"""The house keeps to its figures."""

from __future__ import annotations

import pytest

from tests.house import FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_within_its_limit(name: str) -> None:
    value, findings = FIGURES[name].value_and_findings()
    assert value <= FIGURES[name].limit, "\n".join(findings)
