"""Work is made when it is asked for, and nothing is stored by whoever makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.records import Cause, Failure, Sample
from llava.generation.request import GenerationConfig, Request
from llava.tokenizer import load_tokenizer
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.work import MAX_TOKENS, Work


class CountingRenderer(PromptRenderer):
    """Counts the questions that it was given."""

    num_built = 0

    def build_request(self, sample: Sample, generation: GenerationConfig) -> Request | Failure:
        self.num_built += 1
        return super().build_request(sample, generation)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return load_tokenizer(tiny_checkpoint)


def question(key: str, text: str) -> Sample:
    return Sample(key=key, question_id=key, text=text, prompt=text)


def long_questions(number: int) -> list[Sample]:
    """Questions of which each is an item of its own, the last one being the longest."""
    return [question(str(n), "word " * (MAX_TOKENS // 2 + 1000 * n)) for n in range(number)]


def work_on(samples: list[Sample], renderer: PromptRenderer) -> Work:
    generation = GenerationConfig(max_new_tokens=3)
    return Work(samples=samples, renderer=renderer, generation=generation, num_image_tokens=1)


def test_an_item_is_rendered_when_it_is_asked_for(tokenizer: Any) -> None:
    renderer = CountingRenderer("vicuna_v1", tokenizer)
    items = work_on(long_questions(3), renderer).items()
    assert renderer.num_built == 0
    for number in (1, 2, 3):
        next(items)
        assert renderer.num_built == number


def test_the_heaviest_item_comes_first(tokenizer: Any) -> None:
    work = work_on(long_questions(3), PromptRenderer("vicuna_v1", tokenizer))
    assert [[request.key for request in item] for item in work.items()] == [["2"], ["1"], ["0"]]


def test_what_cannot_be_rendered_is_handed_over_once_and_is_in_no_item(tokenizer: Any) -> None:
    samples = [
        question("good", "What?"),
        question("broken", "Half a character: \ud83d"),
        question("misplaced", "Is there an <image>?"),
    ]
    work = work_on(samples, PromptRenderer("vicuna_v1", tokenizer))
    assert [[request.key for request in item] for item in work.items()] == [["good"]]
    causes = {failure.key: failure.cause for failure in work.take_failures()}
    assert causes == {"broken": Cause.TEXT_UNREADABLE, "misplaced": Cause.IMAGE_COUNT}
    assert work.take_failures() == []


def test_item_of_which_nothing_can_be_rendered_is_left_out(tokenizer: Any) -> None:
    work = work_on([question("broken", "\ud83d")], PromptRenderer("vicuna_v1", tokenizer))
    assert list(work.items()) == []
    assert [failure.key for failure in work.take_failures()] == ["broken"]


def test_what_failed_before_comes_last_however_heavy_it_is(tokenizer: Any) -> None:
    work = work_on(long_questions(4), PromptRenderer("vicuna_v1", tokenizer))
    work.failed_before = {"1", "3"}
    assert [request.key for item in work.items() for request in item] == ["2", "0", "3", "1"]
