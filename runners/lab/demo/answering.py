"""Lessons in tokens, and the forward pass over them: each prefix once, all questions as a batch.

B lessons, N questions, S places behind the prefix, L prefix places, K answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene
from evals.scorers.choice import LETTERS
from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates, render_question
from llava.tokens import tokenizer_image_token
from runners.lab.demo.examples import Example, Lesson
from runners.lab.demo.form import Form
from runners.lab.demo.model import DemoModel, preprocess

_NUM_BATCHES = 3
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
        verdicts: (S,) int64, what is to be learned inside the question, else -100.
    """

    owner: int
    input_ids: torch.Tensor
    labels: torch.Tensor
    verdicts: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the model predicts for the answers of a batch of questions.

    Attributes:
        logits: (K, V) float32, one row for each answer token.
        labels: (K,) int64, the right tokens.
        questions: (K,) int64, position in the batch of the question that the token belongs to.
        verdict_logits: (M, V) float32, one row for each verdict inside the questions.
        verdict_labels: (M,) int64, the right verdicts.
        batch: The N questions.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    questions: torch.Tensor
    verdict_logits: torch.Tensor
    verdict_labels: torch.Tensor
    batch: Sequence[Suffix]

    def right(self) -> torch.Tensor:
        """(N,) bool: whether greedy decoding gives exactly the right answer."""
        wrong = self.logits.argmax(-1) != self.labels
        return torch.zeros(len(self.batch)).index_add(0, self.questions, wrong.float()) == 0


def prefix_ids(form: Form, tokenizer: PreTrainedTokenizerBase, *, with_image: bool) -> list[int]:
    """The tokens that all prompts share, up to the image (left out) or to the user's text."""
    if with_image:
        ids = list(tokenizer_image_token(render_question(form.conversation, "", 1), tokenizer))
        return ids[: ids.index(IMAGE_TOKEN_INDEX)]
    conversation = conv_templates[form.conversation].copy()
    conversation.append_message(conversation.roles[0], None)
    return list(tokenizer_image_token(conversation.get_prompt(), tokenizer))


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """The tokens of an answer behind the prompt, the end token included."""
    ids = tokenizer_image_token(answer, tokenizer)
    # Encoded alone, an answer may get a begin token, and the space that is in front of it anyway.
    return [*ids[int(ids[0] == tokenizer.bos_token_id) :], tokenizer.eos_token_id]


def build_suffixes(
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    lessons: Sequence[Lesson],
    *,
    with_image: bool,
) -> list[Suffix]:
    """The suffixes of all examples of lessons that all have a picture, or all have none."""
    # The image is one token of the prompt.
    skipped = len(prefix_ids(form, tokenizer, with_image=with_image)) + int(with_image)
    spell = cache(partial(answer_ids, tokenizer))
    suffixes = []
    for owner, lesson in enumerate(lessons):
        for example in lesson.examples:
            prompt = render_question(form.conversation, example.text, int(with_image))
            question = list(tokenizer_image_token(prompt, tokenizer))[skipped:]
            answer = spell(example.answer)
            pieces = tokenizer.convert_ids_to_tokens(question)
            verdicts = [IGNORE_INDEX] * len(question)
            for place, verdict in _verdicts(form, example, lesson.scene, pieces):
                verdicts[place] = spell(verdict)[-2]  # it is one token, before the end
            suffix = Suffix(
                owner=owner,
                input_ids=torch.tensor([*question, *answer[:-1]]),
                labels=torch.tensor([*[IGNORE_INDEX] * (len(question) - 1), *answer]),
                verdicts=torch.tensor([*verdicts, *[IGNORE_INDEX] * (len(answer) - 1)]),
            )
            suffixes.append(suffix)
    return suffixes


def _verdicts(
    form: Form, example: Example, scene: Scene | None, pieces: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """What the model is to say inside a question: each place, and what it says there.

    At the last token of an option: its letter if it is the right one, else "no". At a thing's name
    ("rings", "red ring"): how many of it the picture shows. Nobody reads what the model says inside
    a prompt, but one answer a question teaches slowly: without verdicts, letters stay at chance for
    tens of thousands of questions. `pieces` are the tokens behind the prefix, without the answer.
    """
    if scene is not None:
        for place, count in _counts_of_named_things(form, pieces, scene):
            yield place, str(count)
    breaks = [place for place, piece in enumerate(pieces) if piece.endswith(form.line_break)]
    # The suffix is the last line; every option ends before the break of the next line.
    last = len(breaks) - form.num_breaks_behind
    ends = breaks[last - example.num_choices : last]
    for letter, end in zip(LETTERS, ends, strict=False):
        yield end - 1, letter if letter == example.answer else _WRONG


def _counts_of_named_things(
    form: Form, pieces: Sequence[str], scene: Scene
) -> Iterator[tuple[int, int]]:
    """Place and number of each thing that the tokens name by shape, or by color and "shape"."""
    color = None
    for place, piece in enumerate(pieces):
        word = piece.removeprefix(form.space)
        if word in _NOUNS:
            shape = _NOUNS[word]
            if color or shape:
                yield place, len(scene.find(color=color, shape=shape))
        color = word if word in COLORS else None


def answer_lessons(
    model: DemoModel, tokenizer: PreTrainedTokenizerBase, lessons: Sequence[Lesson]
) -> Iterator[Answers]:
    """Predictions for all questions of lessons that all have a picture, or all have none.

    Raises:
        ValueError: some have a picture and some have none.
    """
    images = [lesson.image for lesson in lessons if lesson.image is not None]
    if images and len(images) != len(lessons):
        raise ValueError("`lessons` must all have a picture or all have none. Split them.")
    cache, length = _read_prefix(model, tokenizer, images)
    suffixes = build_suffixes(model.form, tokenizer, lessons, with_image=bool(images))
    suffixes.sort(key=lambda suffix: len(suffix.input_ids))  # so that little is padding
    bounds = [len(suffixes) * i // _NUM_BATCHES for i in range(_NUM_BATCHES + 1)]
    for start, end in pairwise(bounds):
        if batch := suffixes[start:end]:
            # Every question sees its own lesson's prefix; without pictures there is one for all.
            owners = [suffix.owner if images else 0 for suffix in batch]
            yield _answer(model, batch, [(k[owners], v[owners]) for k, v in cache], length)


def _read_prefix(
    model: DemoModel, tokenizer: PreTrainedTokenizerBase, images: Sequence[Image.Image]
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], int]:
    """Keys and values of every layer, (B, heads, L, head width) each, and L.

    Without pictures all lessons have the same prefix, and B is 1.
    """
    decoder: Any = model.language.model
    ids = torch.tensor([prefix_ids(model.form, tokenizer, with_image=bool(images))])
    embeddings = decoder.embed_tokens(ids)  # (1, L, D)
    if images:
        pictures = model.embed_pictures(preprocess(model.form, images))  # (B, features, D)
        embeddings = torch.cat([embeddings.expand(len(images), -1, -1), pictures], dim=1)
    cache = decoder(inputs_embeds=embeddings, use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers], embeddings.shape[1]


def _answer(
    model: DemoModel,
    batch: Sequence[Suffix],
    cache: list[tuple[torch.Tensor, torch.Tensor]],
    prefix_length: int,
) -> Answers:
    decoder: Any = model.language.model

    def padded(values: list[torch.Tensor], padding: int) -> torch.Tensor:  # (N, S)
        return pad_sequence(values, batch_first=True, padding_value=padding)

    # Padding stands on the right, where no real token sees it.
    input_ids = padded([suffix.input_ids for suffix in batch], 0)
    labels = padded([suffix.labels for suffix in batch], IGNORE_INDEX)
    verdicts = padded([suffix.verdicts for suffix in batch], IGNORE_INDEX)
    num_questions, length = input_ids.shape
    seen = torch.ones(length, prefix_length + length, dtype=torch.bool).tril(prefix_length)
    positions = torch.arange(prefix_length, prefix_length + length)
    states = decoder(
        inputs_embeds=decoder.embed_tokens(input_ids),
        attention_mask=seen.expand(num_questions, 1, -1, -1),
        position_ids=positions.expand(num_questions, -1),
        past_key_values=DynamicCache(cache),
        use_cache=True,
    ).last_hidden_state  # (N, S, D)
    is_answer, is_verdict = labels != IGNORE_INDEX, verdicts != IGNORE_INDEX
    return Answers(
        logits=model.language.lm_head(states[is_answer]),
        labels=labels[is_answer],
        questions=is_answer.nonzero()[:, 0],
        verdict_logits=model.language.lm_head(states[is_verdict]),
        verdict_labels=verdicts[is_verdict],
        batch=batch,
    )
