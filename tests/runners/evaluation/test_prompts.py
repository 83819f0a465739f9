from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.reading.images import ImageFile
from evals.records import Failure, Sample
from llava.conversation import conv_templates, render_question
from llava.generation.request import GenerationConfig, Request
from llava.tokenizer import load_tokenizer
from runners.evaluation.prompts import PromptRenderer, answer_lead

GENERATION = GenerationConfig(max_new_tokens=3)
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return load_tokenizer(tiny_checkpoint)


def sample(text: str, num_images: int) -> Sample:
    images = tuple(ImageFile(f"{i}.png", Path(f"{i}.png")) for i in range(num_images))
    return Sample(key="k", question_id=1, text=text, prompt=text, images=images)


@pytest.mark.parametrize(
    ("text", "num_images", "turn"),
    [
        ("What?", 0, "What?"),
        ("What?", 1, "<image>\nWhat?"),
        ("What?", 2, "<image>\n<image>\nWhat?"),
        ("Is <image> red?", 1, "Is <image> red?"),
        ("<image> or <image>?", 2, "<image> or <image>?"),
    ],
)
def test_prompt_has_a_placeholder_line_for_each_image(
    tokenizer: Any, text: str, num_images: int, turn: str
) -> None:
    renderer = PromptRenderer("vicuna_v1", tokenizer)
    prompt = renderer.render(sample(text, num_images))
    assert prompt == f"{SYSTEM} USER: {turn} ASSISTANT:"


def test_images_are_marked_where_the_checkpoint_wants_it(tokenizer: Any) -> None:
    renderer = PromptRenderer("vicuna_v1", tokenizer, marks_images=True)
    assert "USER: <im_start><image><im_end>\nWhat? ASS" in renderer.render(sample("What?", 1))


def test_request_is_complete_and_holds_no_target(tokenizer: Any) -> None:
    request = PromptRenderer("vicuna_v1", tokenizer).build_request(sample("What?", 2), GENERATION)
    assert isinstance(request, Request)
    assert request.prompt_ids.dtype == "int32"
    assert request.prompt_ids.tolist().count(-200) == 2
    assert [image.key for image in request.images] == ["0.png", "1.png"]
    assert request.generation == GENERATION
    assert not hasattr(request, "target")


@pytest.mark.parametrize(
    ("text", "num_images", "num_places"),
    [("Is <image> red?", 0, 1), ("<image> <image>", 1, 2), ("<image>?", 3, 1)],
)
def test_placeholders_that_do_not_fit_fail_that_question(
    tokenizer: Any, text: str, num_images: int, num_places: int
) -> None:
    built = PromptRenderer("vicuna_v1", tokenizer).build_request(
        sample(text, num_images), GENERATION
    )
    assert isinstance(built, Failure)
    assert built.cause == "image_count"
    assert built.message == (
        f"The text places {num_places} images, but the question has {num_images}."
    )


def test_rendering_one_question_leaves_no_trace_in_the_next(tokenizer: Any) -> None:
    renderer = PromptRenderer("llava_v0", tokenizer)
    first = renderer.render(sample("What?", 1))
    renderer.render(sample("Which?", 0))
    assert renderer.render(sample("What?", 1)) == first


def test_text_with_half_a_character_fails_alone(tokenizer: Any) -> None:
    renderer = PromptRenderer("vicuna_v1", tokenizer)
    failure = renderer.build_request(sample("What \ud83d is it?", 0), GENERATION)
    assert isinstance(failure, Failure)
    assert failure.cause == "text_unreadable"


@pytest.mark.parametrize("template", conv_templates)
def test_answer_follows_its_prompt_behind_what_the_template_puts_between(template: str) -> None:
    conversation = conv_templates[template].copy()
    conversation.sep2 = conversation.sep2 or ""  # `plain` closes no answer
    conversation.append_message(conversation.roles[0], "Which one?")
    conversation.append_message(conversation.roles[1], "B")
    prompt = render_question(template, "Which one?", 0)
    assert conversation.get_prompt().startswith(prompt + answer_lead(template) + "B")


@pytest.mark.parametrize(
    ("template", "lead"),
    [
        *(("vicuna_v1", " "), ("mistral_instruct", " "), ("llava_v0", " ")),
        *(("plain", ""), ("qwen_1_5", ""), ("llava_llama_3", ""), ("mpt", "")),
    ],
)
def test_answer_is_set_off_by_a_blank_where_the_template_has_one(template: str, lead: str) -> None:
    assert answer_lead(template) == lead
