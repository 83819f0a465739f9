"""What the engine counts of its packs, beside what hooks see of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llava.generation.packed import PackedEngine
from llava.generation.request import Completion, GenerationConfig, Request
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_packed import random_requests


@dataclass
class Seen:
    """What went through a model.

    Attributes:
        shapes: Rows, new tokens and visible slots of each pass of the language model.
        num_tower_calls: Passes of the vision tower.
    """

    shapes: list[tuple[int, int, int, bool]] = field(default_factory=list)
    num_tower_calls: int = 0


@contextmanager
def watching(model: Any) -> Iterator[Seen]:
    """Notes every pass."""
    seen = Seen()

    def see_pass(_: Any, __: Any, arguments: dict[str, Any]) -> None:
        rows, new = arguments["inputs_embeds"].shape[:2]
        slots = arguments["past_key_values"].get_seq_length() + new
        seen.shapes.append((rows, new, slots, arguments["attention_mask"] is not None))

    def see_images(*_: Any) -> None:
        seen.num_tower_calls += 1

    tower = model.get_vision_tower().model.embeddings
    hooks = [
        model.base_model.register_forward_pre_hook(see_pass, with_kwargs=True),
        tower.register_forward_pre_hook(see_images),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def test_counts_are_those_of_the_passes_that_the_model_sees(tiny_model: LoadedModel) -> None:
    engine = PackedEngine(*tiny_model, replay="off", max_rows=4)
    with watching(tiny_model.model) as seen:
        for seed in range(3):
            list(engine.run(random_requests(tiny_model, seed)))
    report = engine.report()
    passes = report.prefix + report.suffix + report.decode
    assert passes.num_computed == sum(rows * new for rows, new, _, _ in seen.shapes)
    assert report.num_attention_shapes == len(set(seen.shapes)) > 3
    assert report.num_tower_calls == seen.num_tower_calls > 1
    assert 0 < report.padding_share < 1
    stages = (report.encode, report.prefix, report.suffix, report.decode)
    assert all(stage.seconds > 0 for stage in stages)
    assert sum(stage.seconds for stage in stages) < report.busy_s
    assert report.encode.num_computed == 0


def test_useful_tokens_are_those_of_prompts_and_answers(tiny_model: LoadedModel) -> None:
    requests = random_requests(tiny_model, 7)
    engine = PackedEngine(*tiny_model, replay="off", max_rows=4)
    results = [result for result in engine.run(requests) if isinstance(result, Completion)]
    report = engine.report()
    assert len(results) == report.num_packed
    # the last token of an answer is not read any more
    assert report.decode.num_useful == sum(len(result.token_ids) - 1 for result in results)
    read = report.prefix.num_useful + report.suffix.num_useful
    longest = max(result.num_prompt_tokens for result in results)
    assert longest <= read <= sum(result.num_prompt_tokens for result in results)
    alone = PackedEngine(*tiny_model, replay="off")
    list(alone.run(requests[:1]))
    assert alone.report().padding_share == 0


def test_what_a_cache_moves_is_counted(tiny_model: LoadedModel) -> None:
    def moved(max_new_tokens: int) -> int:
        ids = random_requests(tiny_model, 1)[0].prompt_ids
        ids = ids[ids > 0]
        requests = [
            Request(
                key=str(number),
                prompt_ids=ids,
                generation=GenerationConfig(max_new_tokens=max_new_tokens),
            )
            for number in range(2)
        ]
        engine = PackedEngine(*tiny_model, replay="off")
        list(engine.run(requests))
        return engine.report().cache_bytes_moved

    stops = tiny_model.model.generation_config.eos_token_id
    tiny_model.model.generation_config.eos_token_id = None
    try:
        assert moved(8) == 0
        assert moved(100) > 0  # longer than was planned
    finally:
        tiny_model.model.generation_config.eos_token_id = stops
