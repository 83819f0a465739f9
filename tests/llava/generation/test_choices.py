"""One of a few tokens as the whole answer: the same in both engines, in packs of any kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llava.generation.neartie import top_two_among
from llava.generation.packed import PackedEngine
from llava.generation.request import (
    Completion,
    FailureCause,
    GenerationConfig,
    ImageProbe,
    Request,
    RequestFailure,
)
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_decoding import passes_of, text_requests
from tests.llava.generation.test_packed import facts, random_requests

ONE = GenerationConfig(max_new_tokens=1)


def choosing(requests: Sequence[Request], seed: int, share: float = 0.5) -> list[Request]:
    """The same, of which some are to be answered with one of 1 to 6 tokens."""
    rng = np.random.default_rng(seed)

    def choose(request: Request) -> Request:
        tokens = rng.choice(np.arange(3, 250), int(rng.integers(1, 7)), replace=False)
        return replace(request, generation=ONE, choices=tuple(map(int, tokens)))

    return [choose(request) if rng.random() < share else request for request in requests]


def logits_of(model: LoadedModel, request: Request) -> torch.Tensor:
    """(V,) of the first new token, straight from the language model."""
    ids = torch.from_numpy(request.prompt_ids).long()[None]
    with torch.inference_mode():
        return model.model(input_ids=ids).logits[0, -1].float()


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("options", [{}, {"max_tokens": 120}, {"replay": "off"}])
@pytest.mark.parametrize("seed", [0, 1])
def test_packs_mixed_with_generated_answers_are_the_sequential_ones(
    tiny_model: LoadedModel, seed: int, options: dict[str, object]
) -> None:
    requests = choosing(random_requests(tiny_model, seed), seed)
    expected = list(SequentialEngine(*tiny_model).run(requests))
    packed = list(PackedEngine(*tiny_model, **options).run(requests))
    assert facts(packed) == facts(expected)
    given = {request.key: request.choices for request in requests}
    chosen = [r for r in packed if isinstance(r, Completion) and given[r.key]]
    assert 5 < len(chosen) < len(requests) - 5
    for result in chosen:
        assert len(result.token_ids) == 1
        assert result.token_ids[0] in given[result.key]
        assert result.finish_reason == "choice"


def test_likeliest_of_the_choices_is_taken_by_the_models_own_logits(
    tiny_model: LoadedModel,
) -> None:
    requests = choosing(text_requests([9, 20, 14, 5, 30, 12], [1] * 6), seed=3, share=1)
    for engine in (SequentialEngine(*tiny_model), PackedEngine(*tiny_model)):
        for result in engine.run(requests):
            assert isinstance(result, Completion)
            (request,) = (each for each in requests if each.key == result.key)
            scores = logits_of(tiny_model, request)[list(request.choices)]
            assert result.token_ids == (request.choices[int(scores.argmax())],)
            if len(request.choices) > 1:
                best, second = scores.topk(2).values.tolist()
                assert result.min_margin == pytest.approx(best - second, abs=1e-4)


def test_no_step_is_taken_behind_the_prompts(tiny_model: LoadedModel) -> None:
    requests = choosing(text_requests([20] * 4, [1] * 4), seed=0, share=1)
    with passes_of(tiny_model) as passes:
        assert len(list(PackedEngine(*tiny_model).run(requests))) == 4
    assert sum(rows * length for rows, length in passes) <= 4 * 21
    assert all(length > 1 for _, length in passes)


def test_near_ties_of_bfloat16_are_computed_again(tiny_checkpoint: Path) -> None:
    path, name = str(tiny_checkpoint), tiny_checkpoint.name
    model = LoadedModel(
        *load_pretrained_model(path, None, name, device="cpu", dtype=torch.bfloat16)
    )
    requests = choosing(random_requests(model, 5, 60), seed=5, share=0.8)
    expected = {r.key: r.token_ids for r in SequentialEngine(*model).run(requests)}  # type: ignore[union-attr]
    engine = PackedEngine(*model)
    results = list(engine.run(requests))
    assert {r.key: r.token_ids for r in results} == expected  # type: ignore[union-attr]
    given = {request.key: request.choices for request in requests}
    assert any(isinstance(r, Completion) and r.replayed and given[r.key] for r in results)


def test_margin_is_that_of_the_choices_and_decides_what_is_computed_again(
    tiny_model: LoadedModel,
) -> None:
    (request,) = text_requests([12], [1])
    order = logits_of(tiny_model, request).argsort(descending=True).tolist()
    close, far = (order[100], order[101]), (order[0], order[-1])
    distance = (logits_of(tiny_model, request)[list(close)]).diff().abs().item()
    engine = PackedEngine(*tiny_model, near_tie_threshold=2 * distance)
    requests = [replace(request, key=str(c), generation=ONE, choices=c) for c in (close, far)]
    results = {r.key: r.replayed for r in engine.run(requests) if isinstance(r, Completion)}
    assert results == {str(close): True, str(far): False}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_lost_are_no_choice(tiny_model: LoadedModel, value: float) -> None:
    (request,) = text_requests([12], [1])
    request = replace(request, choices=(7, 8))

    def spoil(_: torch.nn.Module, __: tuple[object, ...], logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., 200] = value  # of a token that is no choice
        return logits

    hook = tiny_model.model.lm_head.register_forward_hook(spoil)
    try:
        for engine in (SequentialEngine(*tiny_model), PackedEngine(*tiny_model)):
            [result] = engine.run([request])
            assert isinstance(result, RequestFailure)
            assert result.cause is FailureCause.NOT_FINITE
    finally:
        hook.remove()


def test_probe_writes_freely(tiny_model: LoadedModel) -> None:
    request = random_requests(tiny_model, 0)[1]
    assert request.images
    free = SequentialEngine(*tiny_model).probe(replace(request, generation=ONE))
    probe = SequentialEngine(*tiny_model).probe(replace(request, generation=ONE, choices=(5, 6)))
    assert isinstance(probe, ImageProbe)
    assert probe == free


@pytest.mark.parametrize(
    ("choices", "token", "margin"),
    [
        ((4, 2, 3), 4, 0.0),  # equal to 2, which has the smaller number
        ((2, 4), 2, 0.0),
        ((0, 1), 1, 2.0),
        ((3,), 3, 1e9),
        ((), 5, 1.0),
    ],
)
def test_first_of_equals_is_taken_in_the_order_of_the_choices(
    choices: tuple[int, ...], token: int, margin: float
) -> None:
    scores = torch.tensor([[-3.0, -1.0, 8.0, 2.0, 8.0, 9.0], [9.0, 0.0, 0.0, 0.0, 0.0, 7.0]])
    tokens, tops, margins = top_two_among(scores, [choices, (1, 5)])
    assert (tokens, tops) == ([token, 5], [9.0, 9.0])
    assert margins == pytest.approx([margin, 7.0], rel=1e-6)
