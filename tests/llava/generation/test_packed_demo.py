"""The packed engine on thousands of demo questions: the sequential answers, token for token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llava.generation.packed import PackedEngine
from llava.generation.request import Completion, Request, RequestFailure
from llava.generation.sequential import SequentialEngine
from tests.checkpoints import LoadedModel
from tests.demo_questions import NEXT, demo_items, load_demo

Answers = dict[str, tuple[Any, ...]]


def answers(results: Iterable[Completion | RequestFailure]) -> Answers:
    """What must not depend on how it was computed, by key; no demo question fails."""
    return {
        result.key: (result.token_ids, result.text, result.finish_reason)
        for result in results
        if isinstance(result, Completion)
    }


def compare(items: Sequence[list[Request]], model: LoadedModel, **options: Any) -> PackedEngine:
    """Asserts that packed answers are the sequential ones; returns the packed engine."""
    sequential, packed = SequentialEngine(*model), PackedEngine(*model, **options)
    differing = []
    for item in items:
        expected, got = answers(sequential.run(item)), answers(packed.run(item))
        assert expected.keys() == got.keys() == {request.key for request in item}
        differing += [key for key in expected if got[key] != expected[key]]
    assert differing == []
    return packed


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return load_demo(torch.float32)


@pytest.fixture(scope="module")
def questions(demo: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    """Over a hundred questions of all three benchmarks, with and without an image."""
    folder = tmp_path_factory.mktemp("demo")
    requests = [request for item in demo_items(folder, demo, num_images=2) for request in item]
    assert len(requests) > 100
    assert {len(request.images) for request in requests} == {0, 1}
    return requests


@pytest.fixture(scope="module")
def expected(demo: LoadedModel, questions: list[Request]) -> Answers:
    return answers(SequentialEngine(*demo).run(questions))


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("item_size", [7, pytest.param(50, marks=pytest.mark.slow), None])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_preprocess_threads": 1},
        {"num_preprocess_threads": 4, "max_rows": 3},
        {"max_tokens": 200},
        {"max_tokens": 1_000_000, "max_rows": 1000},
    ],
    ids=["default", "one thread", "four threads", "small budget", "no limits"],
)
def test_budget_item_size_and_threads_do_not_matter(
    demo: LoadedModel,
    questions: list[Request],
    expected: Answers,
    options: dict[str, Any],
    item_size: int | None,
) -> None:
    engine = PackedEngine(*demo, **options)
    size = item_size or len(questions)
    got: Answers = {}
    for start in range(0, len(questions), size):
        got |= answers(engine.run(questions[start : start + size]))
    assert got == expected


@pytest.mark.slow
def test_smallest_budget_asks_every_question_alone(
    demo: LoadedModel, questions: list[Request], expected: Answers
) -> None:
    engine = PackedEngine(*demo, max_tokens=1, replay="off")
    assert answers(engine.run(questions)) == expected


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_order_of_the_questions_does_not_matter(
    demo: LoadedModel, questions: list[Request], expected: Answers, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(questions))
    shuffled = [questions[i] for i in order]
    engine = PackedEngine(*demo)
    got: Answers = {}
    for start in range(0, len(shuffled), 40):
        got |= answers(engine.run(shuffled[start : start + 40]))
    assert got == expected


@pytest.mark.slow
def test_tiled_pictures_get_the_sequential_answers(tmp_path: Path) -> None:
    model = load_demo(torch.float32, NEXT)
    items = list(demo_items(tmp_path, model, num_images=1, template="qwen_1_5"))
    assert sum(map(len, items)) > 60
    compare(items, model)


@pytest.mark.slow
def test_default_demo_questions_get_the_sequential_answers(
    demo: LoadedModel, tmp_path: Path
) -> None:
    items = list(demo_items(tmp_path, demo, num_images=4))
    assert sum(map(len, items)) > 200
    compare(items, demo)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [{}, {"replay": "off"}, {"max_tokens": 700, "max_rows": 3}])
def test_five_thousand_questions_in_float32(
    demo: LoadedModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    items = list(demo_items(tmp_path, demo))
    assert sum(map(len, items)) >= 5000
    print(compare(items, demo, **options).report())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_five_thousand_questions_in_short_formats(
    tmp_path: Path, dtype: torch.dtype, seed: int
) -> None:
    model = load_demo(dtype)
    items = list(demo_items(tmp_path, model, seed=seed))
    assert sum(map(len, items)) >= 5000
    print(compare(items, model).report())
