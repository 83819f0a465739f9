"""One request at a time: right answers, honest ends, and failures that stay alone."""

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.request import (
    Completion,
    FailureCause,
    GenerationConfig,
    Request,
    RequestFailure,
)
from llava.generation.sequential import SequentialEngine
from llava.images import process_images
from llava.tokens import tokenizer_image_token

QUESTION = "USER: <image>\nWhat color is the dog? ASSISTANT:"
NUM_PATCHES = 16


@dataclass(frozen=True)
class FileSource:
    path: Path

    @property
    def key(self):
        return self.path.name

    def open(self):
        with Image.open(self.path) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class RaisingSource:
    """Fails on opening as no image file could."""

    error: BaseException
    key: str = "raising"

    def open(self):
        raise self.error


@dataclass
class EmptySource:
    """Breaks the source's contract: what it opens is no image."""

    key: str

    def open(self):
        return None


@dataclass
class CountingSource:
    """Counts how often it is opened."""

    opened: list = field(default_factory=list)
    key: str = "counting"

    def open(self):
        self.opened.append(1)
        return Image.new("RGB", (20, 20))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    sources = []
    for seed in range(3):
        colors = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(colors).resize((80, 50 + seed), Image.Resampling.NEAREST)
        image.save(folder / f"{seed}.png")
        sources.append(FileSource(folder / f"{seed}.png"))
    return sources


def engine_of(loaded, context_len=None):
    tokenizer, model, image_processor, length = loaded
    return SequentialEngine(tokenizer, model, image_processor, context_len or length)


@pytest.fixture
def engine(tiny_model):
    return engine_of(tiny_model)


@pytest.fixture
def ask(tiny_model):
    """Makes requests of short greedy answers."""

    def make(key="q", prompt=QUESTION, images=(), **options):
        ids = tokenizer_image_token(prompt, tiny_model.tokenizer)
        generation = GenerationConfig(**{"max_new_tokens": 6, **options})
        return Request(
            key=key,
            prompt_ids=np.array(ids, dtype=np.int32),
            images=tuple(images),
            generation=generation,
        )

    return make


def untimed(answers):
    return [
        replace(answer, latency_s=0.0) if isinstance(answer, Completion) else answer
        for answer in answers
    ]


def answer_of(loaded, request, **options):
    """New tokens straight from the model."""
    ids = torch.from_numpy(request.prompt_ids).long()[None]
    images = [source.open() for source in request.images]
    pixels = process_images(images, loaded.image_processor, loaded.model.config) if images else None
    sizes = [image.size for image in images]
    arguments = {"images": pixels, "image_sizes": sizes, "do_sample": False, **options}
    return loaded.model.generate(ids, **arguments)[0].tolist()


@pytest.mark.parametrize(
    ("prompt", "num_images"),
    [
        (QUESTION, 1),
        ("USER: How many dogs are there? ASSISTANT:", 0),
        ("USER: <image> or <image>? ASSISTANT:", 2),
        ("USER: <image> and <image> or <image>? ASSISTANT:", 3),
    ],
)
def test_answer_is_the_models(tiny_model, engine, pictures, ask, prompt, num_images):
    request = ask("q", prompt, pictures[:num_images], max_new_tokens=8)
    completion = engine.complete(request)
    expected = answer_of(tiny_model, request, max_new_tokens=8)
    text = tiny_model.tokenizer.decode(expected, skip_special_tokens=True).strip()
    length = len(request.prompt_ids) + num_images * (NUM_PATCHES - 1)
    assert completion.key == "q"
    assert list(completion.token_ids) == expected
    assert completion.text == text
    assert completion.finish_reason == "length"
    assert completion.num_prompt_tokens == length
    assert len(completion.image_sha256) == num_images
    assert completion.latency_s > 0


def test_tiled_images_are_answered(anyres_model, pictures, ask):
    request = ask("q", QUESTION, pictures[:1])
    completion = engine_of(anyres_model).complete(request)
    # 80 x 50 pixels on 112 x 56: int(6.4) = 6 of 8 columns, and a newline after each of the 4 rows
    num_image_tokens = NUM_PATCHES + 4 * (6 + 1)
    assert list(completion.token_ids) == answer_of(anyres_model, request, max_new_tokens=6)
    assert completion.num_prompt_tokens == len(request.prompt_ids) - 1 + num_image_tokens


def test_images_of_other_shapes_in_one_request_are_answered(anyres_model, pictures, ask, tmp_path):
    Image.new("RGB", (300, 60), (200, 10, 20)).save(tmp_path / "wide.png")
    images = [pictures[0], FileSource(tmp_path / "wide.png")]
    request = ask("q", "USER: <image> or <image>? ASSISTANT:", images)
    completion = engine_of(anyres_model).complete(request)
    assert list(completion.token_ids) == answer_of(anyres_model, request, max_new_tokens=6)


def test_failures_stay_alone(engine, pictures, ask, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    cut = pictures[0].path.read_bytes()[:-60]
    (tmp_path / "cut.png").write_bytes(cut)
    good = [ask("first", images=pictures[:1]), ask("last", images=pictures[1:2])]
    requests = [
        good[0],
        ask("missing", images=[FileSource(tmp_path / "gone.png")]),
        ask("text", images=[FileSource(tmp_path / "text.png")]),
        ask("cut", images=[FileSource(tmp_path / "cut.png")]),
        ask("long", "dog " * 3000),
        ask("none for one", QUESTION),
        ask("two for one", QUESTION, pictures[:2]),
        ask("memory", images=[RaisingSource(torch.OutOfMemoryError("no memory left"))]),
        ask("damaged", images=[RaisingSource(ZeroDivisionError("oops"))]),
        ask("bug", images=[EmptySource("nothing")]),
        good[1],
    ]
    answers = list(engine.run(requests))
    assert [answer.key for answer in answers] == [request.key for request in requests]
    failures = answers[1:-1]
    assert all(isinstance(failure, RequestFailure) for failure in failures)
    assert [failure.cause for failure in failures] == [
        "image_missing",
        "image_unreadable",
        "image_unreadable",
        "prompt_too_long",
        "error",
        "error",
        "out_of_memory",
        "image_unreadable",
        "error",
    ]
    assert "gone.png" in failures[0].message
    assert "text.png" in failures[1].message
    assert "1 image placeholders, but 0 images were given" in failures[4].message
    assert "1 image placeholders, but 2 images were given" in failures[5].message
    assert failures[7].message.endswith("oops")
    assert failures[8].message.startswith("AttributeError: ")
    alone = [engine.complete(request) for request in good]
    assert untimed([answers[0], answers[-1]]) == untimed(alone)


def test_failure_without_a_known_cause_is_logged_with_its_request(engine, ask, caplog):
    list(engine.run([ask("q7", images=[EmptySource("nothing")])]))
    [record] = caplog.records
    assert "q7" in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (RaisingSource(torch.OutOfMemoryError("no room")), FailureCause.OUT_OF_MEMORY),
        (EmptySource("nothing"), FailureCause.ERROR),
    ],
)
def test_probe_that_breaks_is_a_failure_of_its_question(engine, ask, source, cause):
    failure = engine.probe(ask("q7", images=[source]))
    assert isinstance(failure, RequestFailure)
    assert (failure.key, failure.cause) == ("q7", cause)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_being_stopped_is_no_failure_of_a_question(engine, ask, error):
    with pytest.raises(type(error)):
        list(engine.run([ask(images=[RaisingSource(error)])]))


def test_requests_are_answered_only_as_they_are_taken(engine, ask):
    source = CountingSource()
    answers = engine.run([ask("a", images=[source]), ask("b", images=[source])])
    assert source.opened == []
    assert next(answers).key == "a"
    assert len(source.opened) == 1


@pytest.mark.parametrize("several", [False, True])
def test_answer_ends_at_the_end_token(tiny_model, engine, pictures, ask, monkeypatch, several):
    request = ask(images=pictures[:1], max_new_tokens=8)
    unstopped = engine.complete(request)
    end = unstopped.token_ids[3]
    monkeypatch.setattr(
        tiny_model.model.generation_config, "eos_token_id", [end, 639] if several else end
    )
    completion = engine.complete(request)
    length = unstopped.token_ids.index(end) + 1
    assert completion.token_ids == unstopped.token_ids[:length]
    assert completion.finish_reason == "stop"
    exact = ask(images=pictures[:1], max_new_tokens=length)
    assert engine.complete(exact).finish_reason == "stop"
    shorter = ask(images=pictures[:1], max_new_tokens=length - 1)
    assert engine.complete(shorter).finish_reason == "length"


@pytest.mark.parametrize(
    ("room", "asked", "num_tokens", "reason"),
    [(3, 6, 3, "context"), (1, 6, 1, "context"), (6, 6, 6, "length"), (7, 6, 6, "length")],
)
def test_answer_is_cut_where_the_context_ends(
    tiny_model, pictures, ask, room, asked, num_tokens, reason
):
    request = ask(images=pictures[:1], max_new_tokens=asked)
    num_prompt_tokens = len(request.prompt_ids) - 1 + NUM_PATCHES
    completion = engine_of(tiny_model, num_prompt_tokens + room).complete(request)
    expected = answer_of(tiny_model, request, max_new_tokens=num_tokens)
    assert list(completion.token_ids) == expected
    assert completion.finish_reason == reason


@pytest.mark.parametrize("room", [0, -1, -20])
def test_prompt_that_fills_the_context_is_refused(tiny_model, pictures, ask, room):
    request = ask(images=pictures[:1])
    num_prompt_tokens = len(request.prompt_ids) - 1 + NUM_PATCHES
    [failure] = engine_of(tiny_model, num_prompt_tokens + room).run([request])
    assert failure.cause == "prompt_too_long"
    assert f"{num_prompt_tokens} tokens" in failure.message


def test_prompt_that_the_model_would_cut_is_refused(tiny_model, pictures, ask, monkeypatch):
    request = ask(images=pictures[:1])
    length = len(request.prompt_ids) - 1 + NUM_PATCHES
    config = tiny_model.model.config
    monkeypatch.setattr(config, "tokenizer_model_max_length", length - 1, raising=False)
    [failure] = engine_of(tiny_model).run([request])
    assert failure.cause == "prompt_too_long"
    monkeypatch.setattr(config, "tokenizer_model_max_length", length, raising=False)
    [completion] = engine_of(tiny_model).run([request])
    assert completion.finish_reason == "length"


def test_smallest_margin_is_that_of_a_plain_forward_pass(tiny_model, engine, pictures, ask):
    model = tiny_model.model
    request = ask(images=pictures[:1], max_new_tokens=8)
    completion = engine.complete(request)
    prompt = torch.from_numpy(request.prompt_ids).long()
    ids = torch.cat((prompt, torch.tensor(completion.token_ids)))[None]
    images = process_images([pictures[0].open()], tiny_model.image_processor, model.config)
    with torch.no_grad():
        logits = model(input_ids=ids, images=images).logits[0]
    steps = logits[-1 - len(completion.token_ids) : -1]
    top = steps.topk(2).values
    assert steps.argmax(-1).tolist() == list(completion.token_ids)
    assert completion.min_margin == pytest.approx(float((top[:, 0] - top[:, 1]).min()), abs=1e-4)


def test_margin_counts_no_step_after_the_end_token(tiny_model, engine, pictures, ask, monkeypatch):
    request = ask(images=pictures[:1], max_new_tokens=8)
    margins = [
        engine.complete(ask(images=pictures[:1], max_new_tokens=n)).min_margin for n in range(1, 9)
    ]
    assert margins == sorted(margins, reverse=True)
    end = engine.complete(request).token_ids[2]
    monkeypatch.setattr(tiny_model.model.generation_config, "eos_token_id", end)
    stopped = engine.complete(request)
    assert stopped.min_margin == pytest.approx(margins[len(stopped.token_ids) - 1], abs=1e-5)


def test_beams_are_searched_and_have_no_margin(tiny_model, engine, pictures, ask):
    request = ask(images=pictures[:1], num_beams=3)
    completion = engine.complete(request)
    expected = answer_of(tiny_model, request, max_new_tokens=6, num_beams=3)
    assert list(completion.token_ids) == expected
    assert completion.min_margin is None
    assert completion.token_ids != engine.complete(ask(images=pictures[:1])).token_ids


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 2])
def test_numbers_that_are_lost_in_one_beam_are_noticed(
    tiny_model, engine, pictures, ask, value, step
):
    steps = itertools.count()

    def spoil(_module, _inputs, logits):
        if next(steps) == step:
            logits[-1, -1, 5] = value
        return logits

    hook = tiny_model.model.lm_head.register_forward_hook(spoil)
    try:
        failure = engine.answer(ask(images=pictures[:1], num_beams=3))
    finally:
        hook.remove()
    assert failure.cause is FailureCause.NOT_FINITE


def sampled(engine, requests):
    answers = {answer.key: answer for answer in engine.run(requests)}
    assert all(answer.min_margin == min(answer.margins) for answer in answers.values())
    return {key: answer.token_ids for key, answer in answers.items()}


def test_sampled_answer_does_not_depend_on_what_came_before(engine, pictures, ask):
    requests = [ask(key, images=pictures[:1], temperature=1.0, top_p=0.9, seed=3) for key in "abc"]
    answers = sampled(engine, requests)
    torch.manual_seed(99)
    assert sampled(engine, requests[::-1]) == answers
    assert sampled(engine, requests[1:2]) == {"b": answers["b"]}
    assert len(set(answers.values())) == 3


def test_sampled_answer_depends_on_the_seed(engine, pictures, ask):
    answers = {
        sampled(engine, [ask("a", images=pictures[:1], temperature=1.0, seed=seed)])["a"]
        for seed in range(4)
    }
    assert len(answers) == 4


def test_low_temperature_gives_the_greedy_answer(engine, pictures, ask):
    cold = ask(images=pictures[:1], temperature=1e-4)
    assert sampled(engine, [cold])["q"] == engine.complete(ask(images=pictures[:1])).token_ids


def test_placeholders_count_whatever_else_is_in_the_prompt(engine, pictures, ask):
    request = ask("q", "<image>", pictures[:1], max_new_tokens=2)
    assert request.prompt_ids.tolist() == [1, IMAGE_TOKEN_INDEX]
    assert engine.complete(request).num_prompt_tokens == 1 + NUM_PATCHES
