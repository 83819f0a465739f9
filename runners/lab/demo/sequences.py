"""Lessons in tokens: the shared prefix with the picture, and every question behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene
from evals.scorers.choice import LETTERS
from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates, render_question
from llava.tokenizer import SentencePieceTokenizer
from llava.tokens import tokenizer_image_token
from runners.lab.demo.examples import Example, Lesson

CONVERSATION = "vicuna_v1"
_LINE_BREAK, _SPACE = "<0x0A>", "▁"
_WRONG = "no"
_NOUNS: dict[str, str | None] = {
    **{shape: shape for shape in SHAPES},
    **{plural: shape for shape, plural in PLURALS.items()},
    "shape": None,
    "shapes": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffix:
    """What stands behind the prefix of one question, in S places.

    Attributes:
        owner: Position of the question's lesson among those that are answered together.
        input_ids: (S,) int64, the rest of the prompt and the answer but for its last token.
        labels: (S,) int64, the token to predict at each place (already shifted), or -100.
        verdicts: (S,) int64, what is to be learned inside the question, see `build_verdicts`; else
            -100.
    """

    owner: int
    input_ids: torch.Tensor
    labels: torch.Tensor
    verdicts: torch.Tensor


def prefix_ids(tokenizer: SentencePieceTokenizer, *, with_image: bool) -> list[int]:
    """The tokens that all prompts share, up to the image (left out) or to the user's text."""
    if with_image:
        ids = list(tokenizer_image_token(render_question(CONVERSATION, "", 1), tokenizer))
        return ids[: ids.index(IMAGE_TOKEN_INDEX)]
    conversation = conv_templates[CONVERSATION].copy()
    conversation.append_message(conversation.roles[0], None)
    return tokenizer.encode_text(conversation.get_prompt())


def answer_ids(tokenizer: SentencePieceTokenizer, answer: str) -> list[int]:
    """The tokens of an answer behind "ASSISTANT:", the end token included."""
    # Encoded alone, an answer gets a begin token, and the space that is in front of it anyway.
    return [*tokenizer.encode_text(answer)[1:], tokenizer.eos_token_id]


def build_suffixes(
    tokenizer: SentencePieceTokenizer, lessons: Sequence[Lesson], *, with_image: bool
) -> list[Suffix]:
    """The suffixes of all examples of lessons that all have a picture, or all have none."""
    # The image is one token of the prompt.
    skipped = len(prefix_ids(tokenizer, with_image=with_image)) + int(with_image)
    suffixes = []
    for owner, lesson in enumerate(lessons):
        for example in lesson.examples:
            prompt = render_question(CONVERSATION, example.text, int(with_image))
            question = list(tokenizer_image_token(prompt, tokenizer))[skipped:]
            answer = answer_ids(tokenizer, example.answer)
            verdicts = build_verdicts(tokenizer, example, lesson.scene, question)
            suffixes.append(
                Suffix(
                    owner=owner,
                    input_ids=torch.tensor([*question, *answer[:-1]]),
                    labels=torch.tensor([*[IGNORE_INDEX] * (len(question) - 1), *answer]),
                    verdicts=torch.tensor([*verdicts, *[IGNORE_INDEX] * (len(answer) - 1)]),
                )
            )
    return suffixes


def build_verdicts(
    tokenizer: SentencePieceTokenizer, example: Example, scene: Scene | None, question: list[int]
) -> list[int]:
    """What the model is to say inside a question, one token or -100 for each place.

    At the last token of an option: its letter if it is the right one, else "no". At a thing's name
    ("rings", "red ring"): how many of it the picture shows. Nobody reads what the model says inside
    a prompt, but one answer a question teaches slowly: without verdicts, letters stay at chance for
    tens of thousands of questions.

    Args:
        tokenizer: Of the question.
        example: The question in words.
        scene: What the picture shows, None without a picture.
        question: The tokens behind the prefix, without the answer.
    """
    verdicts = [IGNORE_INDEX] * len(question)
    if scene is not None:
        pieces = tokenizer.convert_ids_to_tokens(question)
        for place, count in _counts_of_named_things(pieces, scene):
            verdicts[place] = answer_ids(tokenizer, str(count))[-2]  # the digit, before the end
    line_break = tokenizer.convert_tokens_to_ids(_LINE_BREAK)
    breaks = [place for place, token in enumerate(question) if token == line_break]
    # The suffix is the last line; every option ends before the break of the next line.
    ends = breaks[len(breaks) - example.num_choices :]
    for letter, end in zip(LETTERS, ends, strict=False):
        verdict = letter if letter == example.answer else _WRONG
        verdicts[end - 1] = answer_ids(tokenizer, verdict)[0]
    return verdicts


def _counts_of_named_things(pieces: Sequence[str], scene: Scene) -> Iterator[tuple[int, int]]:
    """Place and number of each thing that the tokens name by shape, or by color and "shape"."""
    color = None
    for place, piece in enumerate(pieces):
        word = piece.removeprefix(_SPACE)
        if word in _NOUNS:
            shape = _NOUNS[word]
            if color or shape:
                yield place, len(scene.find(color=color, shape=shape))
        color = word if word in COLORS else None
