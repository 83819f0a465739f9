"""The gate as its program runs it on the runs in `results`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runners.options import program
from runners.regress import regress


@pytest.fixture(autouse=True)
def in_own_folder(in_own_folder: None) -> None:
    """For every test here."""


def gate(*options: str, baseline: str = "old", candidate: str = "new") -> int:
    return program.run(
        "regress", regress, [f"baseline={baseline}", f"candidate={candidate}", *options]
    )


def verdict(folder: str = "results/new/regress-old") -> dict[str, Any]:
    return json.loads(Path(folder, "verdict.json").read_text())
