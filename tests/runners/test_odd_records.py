"""Summaries and manifests that anyone may have changed, read by every program that shows them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from runners.leaderboard import leaderboard
from runners.options.program import BAD_INPUT_ERRORS, run
from runners.regress import regress
from runners.report import report
from runners.score import score
from tests.runners.synthetic_runs import write_task

Program = Callable[[DictConfig], int]

VALUES: tuple[Any, ...] = (
    ...,
    None,
    True,
    -1,
    0.5,
    1e300,
    float("nan"),
    "x",
    [],
    [1],
    {},
    {"a": 1},
)


def places(value: Any, depth: int) -> Iterator[tuple[str, ...]]:
    """The way to every value in a JSON object, down to a depth."""
    if isinstance(value, dict) and depth:
        for name, part in value.items():
            yield (name,)
            yield from ((name, *rest) for rest in places(part, depth - 1))


def with_value(content: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The object with another value at one place, or without it where that is `...`."""
    first, *rest = place
    if rest:
        value = with_value(content[first], tuple(rest), value)
    return {name: part for name, part in {**content, first: value}.items() if part is not ...}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    judge = {"model": "gpt-4", "base_url": "http://judge", "num_runs": 1, "prompt_sha256": "ab"}
    for name in ("other", "run"):
        write_task(
            folder / name,
            "mmvet",
            [1.0, 0.5, 0.0],
            judge=judge,
            scales={"score": {"unit": "share", "largest": 1.0}},
            breakdowns={"capability": {"ocr": {"score": 0.5, "num_questions": 3}}},
            batch_check={"recomputed": 3, "flipped": 0},
            identity={"imported": None, "data": {"q.json": "ab"}, "conversation": "v1"},
            environment={
                "options": {"limit": None, "seed": 0},
                "runner": {"shard": None, "max_attempts": 3},
                "device_name": "cpu",
            },
        )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("file", ["summary.json", "manifest.json"])
@pytest.mark.parametrize(
    ("program", "words"),
    [
        (report, "runs=run"),
        (report, "runs=[run,other]"),
        (leaderboard, "formats=[md]"),
        (regress, "baseline=other candidate=run"),
        (score, "run=run"),
    ],
)
def test_no_odd_value_ends_a_program_unawares(
    results: Path, program: Program, words: str, file: str
) -> None:
    path = results / "run" / "mmvet" / file
    content = json.loads(path.read_text())
    surprises = {}

    def job(config: DictConfig) -> int:
        for place, value in product(places(content, 3), VALUES):
            path.write_text(json.dumps(with_value(content, place, value)))
            try:
                program(copy.deepcopy(config))
            except BAD_INPUT_ERRORS:
                continue
            except Exception as error:  # noqa: BLE001 - all that a user would be told is a defect
                surprises[".".join(place)] = f"{value!r}: {error!r}"
        return 0

    run(program.__name__, job, [*words.split(), f"results_dir={results}"])
    assert not surprises
