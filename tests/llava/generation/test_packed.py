"""The packed engine gives the sequential answers, whatever is packed with what."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llava.generation.calibration import (
    MEASURE_EVERY,
    NUM_MEASURED,
    Briefing,
    Calibration,
    count_margins,
)
from llava.generation.neartie import NearTies
from llava.generation.packed import PackedEngine
from llava.generation.request import (
    Completion,
    EngineReport,
    GenerationConfig,
    Request,
    RequestFailure,
)
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.tokens import tokenizer_image_token
from runners.in_training.adopted import adopt
from runners.workers.briefing import brief_each
from tests.checkpoints import LoadedModel
from tests.variants import make_native

WORDS = tuple("What color is the dog cat car bus tree on near red green table How many".split())  # noqa: SIM905
SIZES = {"wide": (90, 40), "tall": (30, 70), "square": (56, 56), "large": (130, 120)}


@dataclass(frozen=True)
class Picture:
    """A picture made of its name, which counts how often it is opened."""

    key: str
    opened: Counter[str]

    def open(self) -> Image.Image:
        self.opened[self.key] += 1
        if self.key == "broken":
            raise OSError("truncated")
        if self.key == "immense" or (self.key == "crowded" and self.opened[self.key] == 1):
            raise MemoryError
        rng = np.random.default_rng(len(self.key))
        width, height = SIZES.get(self.key, (20, 20))
        return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def build_request(
    model: LoadedModel, key: str, text: str, images: Sequence[Picture] = (), **generation: Any
) -> Request:
    ids = tokenizer_image_token(text, model.tokenizer)
    options = {"max_new_tokens": 8, **generation}
    return Request(
        key=key,
        prompt_ids=np.array(ids, dtype=np.int32),
        images=tuple(images),
        generation=GenerationConfig(**options),
    )


def random_requests(model: LoadedModel, seed: int, number: int = 24) -> list[Request]:
    """Questions with 0 to 3 images anywhere in the prompt, some sampled, some long."""
    rng = np.random.default_rng(seed)
    opened: Counter[str] = Counter()
    requests = []
    for i in range(number):
        names = rng.choice(list(SIZES), int(rng.choice([0, 1, 1, 1, 1, 2, 3])))
        words = list(rng.choice(WORDS, int(rng.integers(1, 14))))
        if rng.random() < 0.7:
            words = ["<image>\n"] * len(names) + words
        else:  # images anywhere, at the end too
            for _ in names:
                words.insert(int(rng.integers(0, len(words) + 1)), "<image>")
        text = "USER: " + " ".join(words) + ("" if rng.random() < 0.1 else " ASSISTANT:")
        requests.append(
            build_request(
                model,
                str(i),
                text,
                [Picture(str(name), opened) for name in names],
                max_new_tokens=int(rng.integers(1, 24)),
                temperature=float(rng.choice([0.0, 0.0, 0.0, 0.8])),
            )
        )
    requests.append(build_request(model, "empty", ""))
    return requests


def facts(results: Sequence[Completion | RequestFailure]) -> dict[str, Any]:
    """What must not depend on the engine, by key."""
    return {
        r.key: (r.cause,)
        if isinstance(r, RequestFailure)
        else (r.token_ids, r.text, r.finish_reason, r.num_prompt_tokens, r.image_sha256)
        for r in results
    }


@cache
def sequential_facts(model: LoadedModel, seed: int) -> dict[str, Any]:
    """The facts of the sequential answers to random questions; computed once for all tests."""
    return facts(list(SequentialEngine(*model).run(random_requests(model, seed))))


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("fixture", ["tiny_model", "anyres_model", "mistral_model", "mpt_model"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_rows": 5, "num_preprocess_threads": 4},
        {"max_tokens": 90},
        {"max_tokens": 1, "replay": "off"},
        {"max_rows": 64, "max_tokens": 100_000, "num_preprocess_threads": 1},
    ],
    ids=["default", "rows", "splits", "singles", "all at once"],
)
def test_answers_equal_the_sequential_ones(
    fixture: str, seed: int, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    model: LoadedModel = request.getfixturevalue(fixture)
    requests = random_requests(model, seed)
    packed = list(PackedEngine(*model, **options).run(requests))
    assert len(packed) == len(requests)
    assert facts(packed) == sequential_facts(model, seed)


def test_order_of_the_questions_does_not_matter(tiny_model: LoadedModel) -> None:
    requests = random_requests(tiny_model, 2)
    shuffled = [requests[i] for i in np.random.default_rng(0).permutation(len(requests))]
    engine = PackedEngine(*tiny_model, max_rows=4)
    assert facts(list(engine.run(requests))) == facts(list(engine.run(shuffled)))


def test_long_answers_survive_compaction(tiny_model: LoadedModel) -> None:
    opened: Counter[str] = Counter()
    requests = [
        build_request(
            tiny_model,
            str(i),
            f"USER: <image>\n{' '.join(WORDS[: i + 1])} ASSISTANT:",
            [Picture("wide" if i % 2 else "tall", opened)],
            max_new_tokens=120 if i == 3 else 2 + i,
        )
        for i in range(9)
    ]
    expected = facts(list(SequentialEngine(*tiny_model).run(requests)))
    for max_rows in (1, 8):
        engine = PackedEngine(*tiny_model, max_rows=max_rows, replay="off")
        assert facts(list(engine.run(requests))) == expected


def test_each_image_is_opened_once_for_all_its_questions(tiny_model: LoadedModel) -> None:
    opened: Counter[str] = Counter()
    requests = [
        build_request(tiny_model, f"{name}{i}", f"<image>\n{word}", [Picture(name, opened)])
        for name in ("wide", "tall")
        for i, word in enumerate(WORDS[:6])
    ]
    engine = PackedEngine(*tiny_model, replay="off")
    assert len(list(engine.run(requests))) == 12
    assert opened == {"wide": 1, "tall": 1}


def test_broken_images_and_long_prompts_fail_alone(tiny_model: LoadedModel) -> None:
    opened: Counter[str] = Counter()
    good = [Picture("wide", opened)]
    requests = [
        build_request(tiny_model, "good", "<image>\nWhat color is it?", good),
        build_request(tiny_model, "broken", "<image>\nWhat?", [Picture("broken", opened)]),
        build_request(tiny_model, "long", "<image>\n" + "dog " * 3000, good),
        build_request(tiny_model, "uneven", "<image> <image>\nWhat?", good),
        build_request(tiny_model, "also good", "<image>\nIs it red?", good),
    ]
    expected = facts(list(SequentialEngine(*tiny_model).run(requests)))
    assert facts(list(PackedEngine(*tiny_model).run(requests))) == expected
    assert expected["broken"] == ("image_unreadable",)
    assert expected["long"] == ("prompt_too_long",)
    assert expected["uneven"] == ("error",)


def test_images_that_memory_is_short_for_are_tried_alone(tiny_model: LoadedModel) -> None:
    opened: Counter[str] = Counter()
    requests = [
        build_request(tiny_model, name, "<image>\nWhat?", [Picture(name, opened)])
        for name in ("wide", "crowded", "immense")
    ]
    engine = PackedEngine(*tiny_model, replay="off")
    results = {result.key: result for result in engine.run(requests)}
    assert isinstance(results["wide"], Completion)
    assert isinstance(results["crowded"], Completion)
    assert results["immense"] == RequestFailure(
        key="immense", cause="out_of_memory", message="not enough memory"
    )
    assert opened == {"wide": 1, "crowded": 2, "immense": 2}


@contextmanager
def memory_for(model: LoadedModel, max_tokens: int) -> Iterator[list[int]]:
    """Lets the inner model run out of memory above a number of tokens; yields the attempts."""
    attempts: list[int] = []

    def check(_: torch.nn.Module, __: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        rows, length, _ = arguments["inputs_embeds"].shape
        cache = arguments["past_key_values"]
        slots = rows * (length + (cache.get_seq_length() if cache is not None else 0))
        attempts.append(slots)
        if slots > max_tokens:
            raise torch.OutOfMemoryError(f"{slots} slots")

    hook = model.model.get_model().register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield attempts
    finally:
        hook.remove()


def test_packs_that_do_not_fit_are_halved(tiny_model: LoadedModel) -> None:
    requests = random_requests(tiny_model, 3)
    expected = facts(list(SequentialEngine(*tiny_model).run(requests)))
    engine = PackedEngine(*tiny_model, max_rows=8, max_tokens=100_000)
    with memory_for(tiny_model, 160) as attempts:
        results = facts(list(engine.run(requests)))
    assert results == expected
    assert engine.stats.num_halvings > 0
    assert max(attempts) > 160


def test_single_question_that_does_not_fit_fails_alone(tiny_model: LoadedModel) -> None:
    opened: Counter[str] = Counter()
    images = [Picture("wide", opened)]
    requests = [
        build_request(tiny_model, "small", "<image>\nWhat?", images),
        build_request(tiny_model, "large", "<image>\n" + "dog " * 150, images),
    ]
    with memory_for(tiny_model, 100):
        results = {result.key: result for result in PackedEngine(*tiny_model).run(requests)}
    assert isinstance(results["small"], Completion)
    assert isinstance(results["large"], RequestFailure)
    assert results["large"].cause == "out_of_memory"


@pytest.fixture(
    scope="module", params=["bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
)
def short_model(tiny_checkpoint: Path, request: pytest.FixtureRequest) -> LoadedModel:
    """The tiny checkpoint in a short format."""
    name = tiny_checkpoint.name
    loaded = load_pretrained_model(
        str(tiny_checkpoint), None, name, device="cpu", dtype=request.param
    )
    return LoadedModel(*loaded)


def greedy_requests(model: LoadedModel, number: int) -> list[Request]:
    """Many questions with short greedy answers."""
    requests = [
        request
        for seed in range(14)
        for request in random_requests(model, seed)
        if not request.generation.do_sample
    ]
    return [
        Request(
            key=str(i),
            prompt_ids=r.prompt_ids,
            images=r.images,
            generation=GenerationConfig(max_new_tokens=3),
        )
        for i, r in enumerate(requests[:number])
    ]


@pytest.mark.slow
def test_short_formats_give_the_sequential_answers_after_replay(short_model: LoadedModel) -> None:
    model, requests = short_model, greedy_requests(short_model, 215)
    engine = PackedEngine(*model, max_rows=4)
    packed = [
        result for i in range(0, len(requests), 40) for result in engine.run(requests[i : i + 40])
    ]
    assert facts(packed) == facts(list(SequentialEngine(*model).run(requests)))
    report = engine.report()
    assert report.calibration.num_measured == 215 // MEASURE_EVERY
    assert report.calibration.num_answers == 215
    assert report.num_replayed >= report.calibration.num_measured
    assert report.threshold == engine.near_ties.threshold
    assert 0 < report.replay_s <= report.busy_s


def test_sampled_answers_measure_the_threshold_too(short_model: LoadedModel) -> None:
    requests = [
        replace(request, generation=GenerationConfig(max_new_tokens=3, temperature=0.7, top_p=0.9))
        for request in greedy_requests(short_model, 40)
    ]
    engine = PackedEngine(*short_model, max_rows=4)
    packed = list(engine.run(requests))
    assert facts(packed) == facts(list(SequentialEngine(*short_model).run(requests)))
    assert engine.report().calibration.num_measured == 2
    assert math.isfinite(engine.near_ties.threshold)


def test_known_calibration_leaves_only_near_ties_to_replay(short_model: LoadedModel) -> None:
    requests = greedy_requests(short_model, 60)
    engine = PackedEngine(*short_model, max_rows=4)
    change = 2.0**-8 / torch.finfo(short_model.model.dtype).eps  # as large in either format
    known = Calibration(
        num_measured=NUM_MEASURED,
        num_changes=200,
        largest_changes=(change,) * 32,
        num_answers=200,
        margins=count_margins([50.0] * 200),
    )
    engine.brief(brief_each(1, len(requests), known))
    threshold = engine.near_ties.threshold
    results = [result for result in engine.run(requests) if isinstance(result, Completion)]
    for result in results:
        # the widest step of an answer is that of its largest logit, the narrowest a quarter of it
        steps = min(result.margins) / torch.finfo(short_model.model.dtype).eps
        assert result.replayed or steps >= threshold / 8
    report = engine.report()
    assert 0 < report.num_replayed < report.num_packed == len(requests)
    assert report.calibration.num_measured == 0


def test_reports_start_empty_and_name_a_threshold_where_one_decides(
    short_model: LoadedModel, tiny_model: LoadedModel
) -> None:
    packed = PackedEngine(*short_model)
    assert packed.report() == EngineReport(threshold=packed.near_ties.threshold)
    assert PackedEngine(*short_model, replay="off").report().threshold is None
    assert PackedEngine(*tiny_model).report().threshold == 1e-3
    packed.near_ties = NearTies(short_model.model.dtype, prior_steps=math.inf)
    assert packed.near_ties.must_replay([1e6], [10.0])
    assert packed.report().threshold is None  # JSON has no infinity


def test_sequential_reports_its_time_alone(tiny_model: LoadedModel) -> None:
    engine = SequentialEngine(*tiny_model)
    engine.brief(Briefing())
    list(engine.run(random_requests(tiny_model, 5, number=3)))
    report = engine.report()
    assert report.busy_s > 0
    assert report == EngineReport(busy_s=report.busy_s)


def test_replay_all_computes_every_answer_again(tiny_model: LoadedModel) -> None:
    requests = random_requests(tiny_model, 4, number=6)
    engine = PackedEngine(*tiny_model, replay="all")
    results = list(engine.run(requests))
    assert all(result.replayed for result in results if isinstance(result, Completion))
    assert engine.stats.num_flipped == 0


def failing_with(model: LoadedModel, error: Exception) -> Any:
    """Lets every pass of the inner model end in an error; returns what undoes it."""

    def fail(*_: Any) -> None:
        raise error

    return model.model.get_model().register_forward_pre_hook(fail)


@pytest.mark.parametrize("engine", [SequentialEngine, PackedEngine])
def test_lost_device_is_no_failure_of_a_question(tiny_model: LoadedModel, engine: Any) -> None:
    requests = random_requests(tiny_model, 6, number=3)
    hook = failing_with(tiny_model, torch.AcceleratorError("CUDA error: device-side assert"))
    try:
        with pytest.raises(torch.AcceleratorError, match="device-side assert"):
            list(engine(*tiny_model).run(requests))
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (torch.AcceleratorError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "out_of_memory"),
        (RuntimeError("shape mismatch"), "error"),
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", [SequentialEngine, PackedEngine])
def test_failures_are_told_by_what_caused_them(
    tiny_model: LoadedModel, engine: Any, error: Exception, cause: str
) -> None:
    requests = random_requests(tiny_model, 6, number=3)
    hook = failing_with(tiny_model, error)
    try:
        results = list(engine(*tiny_model).run(requests))
    finally:
        hook.remove()
    told = [result.cause for result in results if isinstance(result, RequestFailure)]
    assert len(told) == len(requests)
    assert set(told[:3]) == {cause}


def attend_without_masks(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> Any:
    """What flash attention can do, for a machine that lacks it."""
    assert attention_mask is None or attention_mask.ndim == 2
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    return attend(module, query, key, value, None, **options)


@pytest.mark.parametrize(
    "name", ["flash_attention_2", "flash_attention_3", "kernels-community/flash-attn2"]
)
def test_attention_without_masks_reads_prefixes_only(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    requests = random_requests(tiny_model, 1)
    expected = sequential_facts(tiny_model, 1)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, name, attend_without_masks)
    monkeypatch.setattr(tiny_model.model.config, "_attn_implementation", name)
    engine = PackedEngine(*tiny_model, replay="off")
    assert facts(list(engine.run(requests))) == expected
    assert engine.stats.num_packed == len(requests)
    assert tiny_model.model.config._attn_implementation == name


def test_layers_that_another_model_lends_see_masks_too(
    tiny_model: LoadedModel,
    tiny_checkpoint: Path,
    tiny_tower: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They go by its configuration, not by that of the model that asks."""
    folder = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    native = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    adopted = adopt(native, CLIPImageProcessor.from_pretrained(folder))
    requests = random_requests(tiny_model, 1)
    expected = sequential_facts(tiny_model, 1)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", attend_without_masks)
    of_layers = native.model.language_model.config
    for config in (adopted.config, of_layers):
        monkeypatch.setattr(config, "_attn_implementation", "flash_attention_2")
    engine = PackedEngine(*tiny_model._replace(model=adopted), replay="off")
    assert facts(list(engine.run(requests))) == expected
    assert of_layers._attn_implementation == "flash_attention_2"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch, attention: str
) -> None:
    requests = random_requests(tiny_model, 1)
    expected = sequential_facts(tiny_model, 1)
    monkeypatch.setattr(tiny_model.model.config, "_attn_implementation", attention)
    assert facts(list(PackedEngine(*tiny_model, replay="off").run(requests))) == expected
