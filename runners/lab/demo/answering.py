"""The forward pass over lessons: each prefix once, all questions behind it as a batch.

B lessons, P patches, N questions, S places behind the prefix, L prefix places, K answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPImageProcessorPil, DynamicCache

from evals.demo.drawing import IMAGE_SIZE
from llava.constants import IGNORE_INDEX
from llava.images import process_images
from llava.tokenizer import SentencePieceTokenizer
from runners.lab.demo.examples import Lesson
from runners.lab.demo.model import DemoModel
from runners.lab.demo.sequences import Suffix, build_suffixes, prefix_ids

_NUM_BATCHES = 3


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


def preprocess(images: Sequence[Image.Image]) -> torch.Tensor:
    """(B, 3, H, W) float32 pixels, CLIP-normalized, as the checkpoint's configuration has it."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    config = SimpleNamespace(image_aspect_ratio="pad")
    return torch.as_tensor(np.asarray(process_images(images, processor, config)))


def answer_lessons(
    model: DemoModel, tokenizer: SentencePieceTokenizer, lessons: Sequence[Lesson]
) -> Iterator[Answers]:
    """Predictions for all questions of lessons that all have a picture, or all have none.

    Raises:
        ValueError: some have a picture and some have none.
    """
    images = [lesson.image for lesson in lessons if lesson.image is not None]
    if images and len(images) != len(lessons):
        raise ValueError("`lessons` must all have a picture or all have none. Split them.")
    cache, length = _read_prefix(model, tokenizer, images)
    suffixes = build_suffixes(tokenizer, lessons, with_image=bool(images))
    suffixes.sort(key=lambda suffix: len(suffix.input_ids))  # so that little is padding
    bounds = [len(suffixes) * i // _NUM_BATCHES for i in range(_NUM_BATCHES + 1)]
    for start, end in pairwise(bounds):
        if batch := suffixes[start:end]:
            # Every question sees its own lesson's prefix; without pictures there is one for all.
            owners = [suffix.owner if images else 0 for suffix in batch]
            yield _answer(model, batch, [(k[owners], v[owners]) for k, v in cache], length)


def _read_prefix(
    model: DemoModel, tokenizer: SentencePieceTokenizer, images: Sequence[Image.Image]
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], int]:
    """Keys and values of every layer, (B, heads, L, head width) each, and L.

    Without pictures all lessons have the same prefix, and B is 1.
    """
    decoder: Any = model.language.model
    ids = torch.tensor([prefix_ids(tokenizer, with_image=bool(images))])
    embeddings = decoder.embed_tokens(ids)  # (1, L, D)
    if images:
        with torch.no_grad():  # the tower has ended its training
            features = model.select_features(preprocess(images))
        projected = model.projector(features)  # (B, P, D)
        embeddings = torch.cat([embeddings.expand(len(images), -1, -1), projected], dim=1)
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
