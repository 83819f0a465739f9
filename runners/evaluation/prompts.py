"""A question becomes a request: the user turn, the conversation around it, its token ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from evals.records import Cause, Failure, Sample
from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import open_question, render_question
from llava.generation.request import GenerationConfig, Request
from llava.tokens import ChunkEncoder, tokenizer_image_token
from runners.errors import ConfigError


@dataclass(slots=True)
class PromptRenderer:
    """Renders questions in one conversation template and tokenizes them.

    Attributes:
        template: Name of the conversation template.
        tokenizer: The checkpoint's tokenizer.
        marks_images: Whether the checkpoint wants images between start and end tokens.
    """

    template: str
    tokenizer: Any
    marks_images: bool = False
    _encoder: ChunkEncoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._encoder = ChunkEncoder(self.tokenizer)

    def render(self, sample: Sample) -> str:
        """Returns the prompt of a question, see `render_question`."""
        return render_question(
            self.template, sample.text, len(sample.images), marks_images=self.marks_images
        )

    def tokenize(self, sample: Sample) -> list[int]:
        """Returns the ids of a question's prompt, with `IMAGE_TOKEN_INDEX` for each image."""
        return self._ids(self.render(sample))

    def build_request(self, sample: Sample, generation: GenerationConfig) -> Request | Failure:
        """Returns the request of a question, or a failure if its placeholders do not fit.

        Raises:
            ConfigError: as `find_choices`.
        """
        prompt = self.render(sample)
        if (place := _half_character(prompt)) is not None:
            return Failure(
                key=sample.key,
                cause=Cause.TEXT_UNREADABLE,
                message=f"The text is no Unicode: half a character at place {place}.",
            )
        ids = self._ids(prompt)
        if ids.count(IMAGE_TOKEN_INDEX) != len(sample.images):
            num_places = sample.text.count(DEFAULT_IMAGE_TOKEN)
            return Failure(
                key=sample.key,
                cause=Cause.IMAGE_COUNT,
                message=f"The text places {num_places} images, but the question has "
                f"{len(sample.images)}.",
            )
        return Request(
            key=sample.key,
            prompt_ids=np.array(ids, dtype=np.int32),
            images=sample.images,
            generation=generation,
            choices=self.find_choices(sample) if sample.choices else (),
        )

    def find_choices(self, sample: Sample) -> tuple[int, ...]:
        """Returns the token with which an answer begins that is one of a question's choices.

        It follows the prompt as it would in a conversation: where the template puts a blank in
        front of an answer, it is the token with that blank.

        Raises:
            ConfigError: choices share their token, or one is not a token of its own there.
        """
        prompt = self.render(sample)
        opened = self._ids(prompt)
        answered = {c: self._ids(prompt + answer_lead(self.template) + c) for c in sample.choices}
        found: dict[int, str] = {}
        for choice, ids in answered.items():
            token = next(iter(ids[len(opened) :]), None)
            if token is None or ids[: len(opened)] != opened:
                raise self._unrankable(sample, f"{choice!r} does not begin with a token of its own")
            if token in found:
                raise self._unrankable(
                    sample, f"{found[token]!r} and {choice!r} begin with the same token"
                )
            found[token] = choice
        for token, choice in found.items():
            text = self.tokenizer.decode([token], skip_special_tokens=True).strip()
            if text != choice:
                raise self._unrankable(sample, f"{choice!r} begins with the token {text!r}")
        return tuple(found)

    def require_choices(self, samples: Iterable[Sample]) -> None:
        """Checks that choices can be ranked, by one question for each set of them.

        A question whose text cannot be read is none of these: it fails alone, see `build_request`.

        Raises:
            ConfigError: as `find_choices`.
        """
        readable = (s for s in samples if s.choices and _half_character(self.render(s)) is None)
        for sample in {sample.choices: sample for sample in readable}.values():
            self.find_choices(sample)

    def _unrankable(self, sample: Sample, reason: str) -> ConfigError:
        return ConfigError(
            f"The choices of question {sample.key} cannot be ranked: behind its prompt in the "
            f"conversation template {self.template}, {reason} of the checkpoint's tokenizer. Set "
            "`answer` of the task to generate, or choose another template if this is not the "
            "checkpoint's."
        )

    def _ids(self, prompt: str) -> list[int]:
        return cast("list[int]", tokenizer_image_token(prompt, self._encoder))


def _half_character(text: str) -> int | None:
    """Where a text is no Unicode, as JSON can hold it; None where all of it is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def answer_lead(template: str) -> str:
    """Returns what a template puts between the prompt of a question and the answer to it.

    >>> answer_lead("vicuna_v1"), answer_lead("qwen_1_5")
    (' ', '')
    """
    conversation, answer = open_question(template, "?"), "!"
    opened = conversation.get_prompt()
    conversation.sep2 = conversation.sep2 or ""  # `plain` has none, as it never closes an answer
    conversation.messages[-1][1] = answer
    return conversation.get_prompt().removeprefix(opened).partition(answer)[0]
