"""Lessons in tokens: the shared prefix with the picture, and every question behind it.

N questions, S places behind the prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene
from evals.scorers.choice import LETTERS
from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates
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
    """What stands behind the prefix of one question.

    Attributes:
        owner: Position of the question's lesson among those that share the batch.
        position: Position of the question within its lesson.
        input_ids: The rest of the prompt and the answer but for its last token.
        labels: The token to predict at each place (already shifted), or -100.
        verdicts: What is to be learned inside the question, see `build_verdicts`; else -100.
    """

    owner: int
    position: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    verdicts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixBatch:
    """Suffixes of similar length, padded on the right.

    Attributes:
        owners: (N,) int64, see `Suffix.owner`.
        positions: (N,) int64, see `Suffix.position`.
        input_ids: (N, S) int64.
        labels: (N, S) int64, shifted; -100 where nothing is to be predicted.
        verdicts: (N, S) int64, see `Suffix.verdicts`.
    """

    owners: torch.Tensor
    positions: torch.Tensor
    input_ids: torch.Tensor
    labels: torch.Tensor
    verdicts: torch.Tensor


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
                    verdicts=(
                        *build_verdicts(tokenizer, example, lesson.scene, question),
                        *[IGNORE_INDEX] * (len(answer) - 1),
                    ),
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
        for place, count in _counts_of_named_things(
            tokenizer.convert_ids_to_tokens(question), scene
        ):
            verdicts[place] = answer_ids(tokenizer, str(count))[-2]
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
        verdicts=torch.tensor([padded(suffix.verdicts, IGNORE_INDEX) for suffix in suffixes]),
    )
