"""A question becomes a request: the user turn, the conversation around it, its token ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from evals.records import Cause, Failure, Sample
from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import render_question
from llava.generation.request import GenerationConfig, Request
from llava.tokens import ChunkEncoder, tokenizer_image_token


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
        """Returns the request of a question, or a failure if its placeholders do not fit."""
        prompt = self.render(sample)
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            return Failure(
                key=sample.key,
                cause=Cause.TEXT_UNREADABLE,
                message=f"The text is no Unicode: half a character at place {error.start}.",
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
        )

    def _ids(self, prompt: str) -> list[int]:
        return cast("list[int]", tokenizer_image_token(prompt, self._encoder))
