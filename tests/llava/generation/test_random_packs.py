"""Whatever is asked together and however it is cut: the packed answers are the sequential ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.packed import PackedEngine
from llava.generation.request import Completion, GenerationConfig, Request
from llava.generation.sequential import SequentialEngine
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_packed import SIZES, Picture, facts

WORD_IDS = st.integers(3, 250)
WORDS = st.lists(WORD_IDS, max_size=12)
GENERATIONS = st.builds(
    GenerationConfig,
    max_new_tokens=st.integers(1, 12),
    temperature=st.sampled_from([0.0, 0.0, 0.0, 0.8]),
    seed=st.integers(0, 3),
)
OPTIONS = st.fixed_dictionaries(
    {
        "max_tokens": st.sampled_from([1, 40, 90, 300, 100_000]),
        "max_rows": st.sampled_from([1, 2, 5, 64]),
        "num_preprocess_threads": st.sampled_from([1, 4]),
    }
)
END_BIASES = st.sampled_from([-100.0, 0.0, 2.0, 4.0, 6.0])
Question = tuple[list[int], GenerationConfig]


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[int], tuple[str, ...], list[Question]]:
    """The shared ids, with 0 to 3 images anywhere in them, and what follows for each question."""
    images = tuple(draw(st.lists(st.sampled_from(sorted(SIZES)), max_size=3)))
    shared = draw(st.lists(WORD_IDS, min_size=1, max_size=6))
    for _ in images:
        shared.insert(draw(st.integers(0, len(shared))), IMAGE_TOKEN_INDEX)
    questions = draw(st.lists(st.tuples(WORDS, GENERATIONS), min_size=1, max_size=7))
    return shared, images, questions


PACKS = st.lists(groups(), min_size=1, max_size=4).flatmap(
    lambda drawn: st.tuples(st.just(drawn), st.randoms(use_true_random=False))
)


def build_requests(drawn: Any) -> list[Request]:
    """Requests of all groups, their order mixed."""
    opened: Counter[str] = Counter()
    parts, random = drawn
    requests = [
        Request(
            key=f"{group}-{number}",
            prompt_ids=np.array(shared + ids, dtype=np.int32),
            images=tuple(Picture(name, opened) for name in images),
            generation=generation,
        )
        for group, (shared, images, questions) in enumerate(parts)
        for number, (ids, generation) in enumerate(questions)
    ]
    random.shuffle(requests)
    return requests


@contextmanager
def end_bias(model: Any, bias: float) -> Iterator[None]:
    """Makes the end of an answer likelier, so that some begin with it."""

    def add(_: torch.nn.Module, __: tuple[Any, ...], logits: torch.Tensor) -> torch.Tensor:
        offset = torch.zeros(logits.shape[-1])
        offset[model.generation_config.eos_token_id] = bias
        return logits + offset

    hook = model.lm_head.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def check(model: LoadedModel, drawn: Any, options: dict[str, Any], bias: float) -> None:
    requests = build_requests(drawn)
    with end_bias(model.model, bias):
        expected = facts(list(SequentialEngine(*model).run(requests)))
        engine = PackedEngine(*model, **options)
        packed = list(engine.run(requests))
    assert engine.stats.num_packed == len(packed) == len(requests)  # no pack has failed
    assert facts(packed) == expected


def packs(num_examples: int) -> Callable[..., Any]:
    """The same packs at every run."""

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        drawn = given(drawn=PACKS, options=OPTIONS, bias=END_BIASES)(test)
        return settings(
            max_examples=num_examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )(drawn)

    return decorate


@pytest.mark.slow
@packs(15)
def test_random_packs_of_llama(
    tiny_model: LoadedModel, drawn: Any, options: dict[str, Any], bias: float
) -> None:
    check(tiny_model, drawn, options, bias)


@pytest.mark.slow
@packs(10)
def test_random_packs_of_mistral(
    mistral_model: LoadedModel, drawn: Any, options: dict[str, Any], bias: float
) -> None:
    check(mistral_model, drawn, options, bias)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@packs(300)
def test_many_random_packs_of_llama(
    tiny_model: LoadedModel, drawn: Any, options: dict[str, Any], bias: float
) -> None:
    check(tiny_model, drawn, options, bias)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@packs(300)
def test_many_random_packs_of_mistral(
    mistral_model: LoadedModel, drawn: Any, options: dict[str, Any], bias: float
) -> None:
    check(mistral_model, drawn, options, bias)


@pytest.mark.parametrize("max_tokens", [1, 100_000])
def test_prompts_of_one_token_and_answers_that_end_at_once(
    tiny_model: LoadedModel, max_tokens: int
) -> None:
    requests = [Request(key=str(i), prompt_ids=np.array([i], dtype=np.int32)) for i in range(3, 9)]
    with end_bias(tiny_model.model, 1e4):
        expected = facts(list(SequentialEngine(*tiny_model).run(requests)))
        packed = list(PackedEngine(*tiny_model, max_tokens=max_tokens).run(requests))
    assert facts(packed) == expected
    assert all(isinstance(result, Completion) and result.text == "" for result in packed)
    assert all(
        isinstance(result, Completion) and result.finish_reason == "stop" for result in packed
    )
