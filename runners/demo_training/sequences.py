"""Lessons in tokens: the shared prefix with the picture, and every question behind it.

N questions, S places behind the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates
from llava.tokenizer import SentencePieceTokenizer
from llava.tokens import tokenizer_image_token
from runners.demo_training.examples import Lesson

CONVERSATION = "vicuna_v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffix:
    """What stands behind the prefix of one question.

    Attributes:
        owner: Position of the question's lesson among those that share the batch.
        position: Position of the question within its lesson.
        input_ids: The rest of the prompt and the answer but for its last token.
        labels: The token to predict at each place (already shifted), or -100.
    """

    owner: int
    position: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixBatch:
    """Suffixes of similar length, padded on the right.

    Attributes:
        owners: (N,) int64, see `Suffix.owner`.
        positions: (N,) int64, see `Suffix.position`.
        input_ids: (N, S) int64.
        labels: (N, S) int64, shifted; -100 where nothing is to be predicted.
    """

    owners: torch.Tensor
    positions: torch.Tensor
    input_ids: torch.Tensor
    labels: torch.Tensor


def render_prompt(text: str | None, *, with_image: bool) -> str:
    """The prompt of a user turn as the model gets it; without text, the part before it."""
    conversation = conv_templates[CONVERSATION].copy()
    conversation.append_message(conversation.roles[0], f"<image>\n{text}" if with_image else text)
    if text is not None:
        conversation.append_message(conversation.roles[1], None)
    return conversation.get_prompt()


def prefix_ids(tokenizer: SentencePieceTokenizer, *, with_image: bool) -> list[int]:
    """The tokens that all prompts share, up to the image (left out) or to the user's text."""
    if not with_image:
        return tokenizer.encode_text(render_prompt(None, with_image=False))
    ids = list(tokenizer_image_token(render_prompt("", with_image=True), tokenizer))
    return ids[: ids.index(IMAGE_TOKEN_INDEX)]


def answer_ids(tokenizer: SentencePieceTokenizer, answer: str) -> list[int]:
    """The tokens of an answer behind "ASSISTANT:", the end token included."""
    return [*tokenizer.encode_text(answer)[1:], tokenizer.eos_token_id]


def build_suffixes(
    tokenizer: SentencePieceTokenizer, lessons: Sequence[Lesson], *, with_image: bool
) -> list[Suffix]:
    """The suffixes of all examples of lessons that all have a picture, or all have none."""
    # The image is one token of the prompt.
    skipped = len(prefix_ids(tokenizer, with_image=with_image)) + int(with_image)
    suffixes = []
    for owner, lesson in enumerate(lessons):
        for position, example in enumerate(lesson.examples):
            prompt = render_prompt(example.text, with_image=with_image)
            question = list(tokenizer_image_token(prompt, tokenizer))[skipped:]
            answer = answer_ids(tokenizer, example.answer)
            suffixes.append(
                Suffix(
                    owner=owner,
                    position=position,
                    input_ids=(*question, *answer[:-1]),
                    labels=(*[IGNORE_INDEX] * (len(question) - 1), *answer),
                )
            )
    return suffixes


def build_suffix_batches(suffixes: Sequence[Suffix], num_batches: int) -> list[SuffixBatch]:
    """The suffixes in up to `num_batches` batches, short ones first, so that little is padding."""
    ordered = sorted(suffixes, key=lambda suffix: len(suffix.input_ids))
    bounds = [len(ordered) * i // num_batches for i in range(num_batches + 1)]
    chunks = [ordered[start:end] for start, end in pairwise(bounds)]
    return [_pad(chunk) for chunk in chunks if chunk]


def _pad(suffixes: Sequence[Suffix]) -> SuffixBatch:
    longest = len(suffixes[-1].input_ids)

    def padded(values: Sequence[int], padding: int) -> list[int]:
        return [*values, *[padding] * (longest - len(values))]

    return SuffixBatch(
        owners=torch.tensor([suffix.owner for suffix in suffixes]),
        positions=torch.tensor([suffix.position for suffix in suffixes]),
        input_ids=torch.tensor([padded(suffix.input_ids, 0) for suffix in suffixes]),
        labels=torch.tensor([padded(suffix.labels, IGNORE_INDEX) for suffix in suffixes]),
    )
