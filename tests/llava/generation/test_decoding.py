"""Writing the answers of a pack: what is copied in the cache, and what is fed to the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from llava.generation.decoding import PackDecoder, Question
from llava.generation.meter import PackMeter
from llava.generation.plan import Pack, plan_packs
from llava.generation.request import Completion, GenerationConfig, Request
from llava.generation.sequential import SequentialEngine
from tests.checkpoints import LoadedModel

NEVER: frozenset[int] = frozenset()


def text_requests(lengths: Sequence[int], new_tokens: Sequence[int]) -> list[Request]:
    """Prompts of random ids that have only the first in common, without images."""
    rng = np.random.default_rng(0)
    return [
        Request(
            key=str(i),
            prompt_ids=np.array([1, *rng.integers(3, 250, length)], dtype=np.int32),
            generation=GenerationConfig(max_new_tokens=new),
        )
        for i, (length, new) in enumerate(zip(lengths, new_tokens, strict=True))
    ]


def rows_of(requests: Sequence[Request]) -> Pack:
    """A pack with a row for each request."""
    planned = [
        plan_packs([request], max_tokens=10**6, max_rows=1, num_image_tokens=0, width=64)
        for request in requests
    ]
    return Pack(rows=tuple(row for packs in planned for pack in packs for row in pack.rows))


@torch.inference_mode()
def decode(
    model: LoadedModel, pack: Pack, max_pass_tokens: int | None = None
) -> tuple[PackDecoder, dict[str, tuple[int, ...]]]:
    """The decoder after its run, and the tokens by key."""
    questions = [
        Question(
            request=request,
            row=number,
            owner=owner,
            position=row.prefix_tokens,
            max_new_tokens=request.generation.max_new_tokens,
        )
        for number, row in enumerate(pack.rows)
        for owner, request in enumerate(row.requests)
    ]
    meter = PackMeter(model.model.device)
    decoder = PackDecoder(
        model.model, pack, {}, questions, NEVER, meter, max_pass_tokens=max_pass_tokens
    )
    decoder.run()
    return decoder, {question.request.key: tuple(question.tokens) for question in questions}


@contextmanager
def passes_of(model: LoadedModel) -> Iterator[list[tuple[int, int]]]:
    """Rows and new tokens of every pass through the inner model."""
    passes: list[tuple[int, int]] = []

    def note(_: torch.nn.Module, __: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        passes.append(tuple(arguments["inputs_embeds"].shape[:2]))

    hook = model.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


def sequential(model: LoadedModel, requests: Sequence[Request]) -> dict[str, tuple[int, ...]]:
    engine = SequentialEngine(*model)
    results = [result for result in engine.run(requests) if isinstance(result, Completion)]
    return {result.key: result.token_ids for result in results}


def cache_bytes(model: LoadedModel, pack: Pack) -> int:
    """What keys and values of a whole pack take in float32, as planned."""
    config = model.model.config
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    return int(2 * 4 * config.num_hidden_layers * width * pack.cost)


def test_short_answers_copy_nothing_in_the_cache(tiny_model: LoadedModel) -> None:
    requests = text_requests([9, 30, 12, 30, 25, 8], [3, 1, 12, 4, 15, 2])
    decoder, answers = decode(tiny_model, rows_of(requests), max_pass_tokens=64)
    assert {key: len(tokens) for key, tokens in answers.items()} == {
        request.key: request.generation.max_new_tokens for request in requests
    }
    assert decoder.cache_bytes_moved == 0


def test_long_answers_copy_less_than_the_whole_cache(tiny_model: LoadedModel) -> None:
    requests = text_requests([9, 30, 12, 30, 25, 8, 17, 21], [3, 30, 1, 2, 4, 20, 28, 1])
    pack = rows_of(requests)
    decoder, answers = decode(tiny_model, pack)
    assert 0 < decoder.cache_bytes_moved < cache_bytes(tiny_model, pack) / 2
    expected = sequential(tiny_model, requests)
    # here no token ends an answer
    assert all(answers[key][: len(tokens)] == tokens for key, tokens in expected.items())


def test_finished_rows_at_the_ends_are_left_out_at_once(tiny_model: LoadedModel) -> None:
    pack = rows_of(text_requests([20] * 5, [2, 3, 6, 4, 2]))
    with passes_of(tiny_model) as passes:
        decode(tiny_model, pack)
    assert passes == [(5, 21), (5, 1), (3, 1), (2, 1), (1, 1), (1, 1)]


def test_prompts_go_through_a_few_at_a_time_and_answers_together(tiny_model: LoadedModel) -> None:
    pack = rows_of(text_requests([40, 40, 20, 20, 20], [3] * 5))
    with passes_of(tiny_model) as passes:
        _, answers = decode(tiny_model, pack, max_pass_tokens=60)
    assert passes == [(1, 41), (1, 41), (2, 21), (1, 21), (5, 1), (5, 1)]
    assert answers == decode(tiny_model, pack)[1]
