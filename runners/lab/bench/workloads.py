"""Questions of a benchmark's shape: how many an image, how long, how long the answers.

Group sizes and lengths follow the real files, in tokens of the LLaMA tokenizer: GQA testdev
(12,578 questions on 398 images), VQAv2 (5.3 an image), ScienceQA test (2,017 questions with an
image). Prompts are random words of one token each, images are random colors.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evals.reading.images import ImageFile
from evals.records import Sample
from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.request import GenerationConfig, Request
from runners.evaluation.prompts import PromptRenderer

PREFIX_TOKENS = 35
"""Tokens of the vicuna_v1 template in front of the image."""

_BEGIN_ID = 1
_SPACE = "▁"

NUM_IMAGES = {"gqa": 5, "vqav2": 5, "scienceqa": 10, "generate": 8}
"""Workloads, and how many images they have unless told otherwise."""

# Questions an image of GQA testdev_balanced: smallest and largest are 3 and 92, the mean 31.6.
_GQA_DECILES = (3, 15, 20, 24, 27, 30, 33, 37, 42, 50, 92)
# Tokens behind the image: template, question and suffix.
_SHORT_DECILES = (22, 25, 26, 26, 27, 28, 29, 30, 31, 33, 47)
_SCIENCE_DECILES = (40, 47, 50, 54, 61, 71, 84, 106, 145, 200, 420)


@dataclass(frozen=True, slots=True)
class NoiseImage:
    """An image of random colors, the same for the same key."""

    key: str

    def open(self) -> Image.Image:
        """Returns the image in RGB."""
        rng = np.random.default_rng(int.from_bytes(self.key.encode()[-8:], "big"))
        small = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((336, 336))


def build_workload(
    name: str,
    num_images: int | None,
    word_ids: Sequence[int],
    seed: int,
    questions: Path | None = None,
) -> list[Request]:
    """Returns the requests of `gqa`, `vqav2`, `scienceqa` or `generate` (200 new tokens).

    Args:
        name: Of the workload.
        num_images: None for as many as `NUM_IMAGES` says.
        word_ids: What prompts are made of; see `find_words`.
        seed: Of words and lengths.
        questions: LLaVA's GQA question file, whose groups are taken instead of the built-in ones.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in NUM_IMAGES:
        raise ValueError(
            f"`workload` must be one of {', '.join(NUM_IMAGES)}, or demo where engines are "
            f"measured, but is {name!r}."
        )
    rng = np.random.default_rng(seed)
    sizes, deciles, new_tokens = _shape(name, num_images or NUM_IMAGES[name], rng, questions)
    # the same for all, as a system prompt is
    template = [_BEGIN_ID, *rng.choice(word_ids, PREFIX_TOKENS - 1)]
    requests = []
    for image, size in enumerate(sizes):
        source = NoiseImage(f"{name}-{image}")
        for number in range(size):
            suffix = rng.choice(word_ids, _draw(rng, deciles))
            request = Request(
                key=f"{image}-{number}",
                prompt_ids=np.array([*template, IMAGE_TOKEN_INDEX, *suffix], dtype=np.int32),
                images=(source,),
                generation=GenerationConfig(max_new_tokens=new_tokens),
            )
            requests.append(request)
    return requests


def find_words(tokenizer: Any) -> list[int]:
    """Returns the ids that are a whole word each: text made of them has just these ids again."""
    found = []
    for token_id in range(len(tokenizer)):
        word = tokenizer.convert_ids_to_tokens(token_id).removeprefix(_SPACE)
        if word.isalpha() and tokenizer.encode_text(word) == [_BEGIN_ID, token_id]:
            found.append(token_id)
    return found


def as_samples(requests: Sequence[Request], tokenizer: Any) -> list[Sample]:
    """Returns the questions of which a parent process would have made these requests."""
    samples = []
    for request in requests:
        end = int(np.flatnonzero(request.prompt_ids == IMAGE_TOKEN_INDEX)[-1])
        text = tokenizer.decode(request.prompt_ids[end + 1 :].tolist())
        images = tuple(ImageFile(image.key, Path(image.key)) for image in request.images)
        samples.append(
            Sample(key=request.key, question_id=request.key, text=text, prompt="", images=images)
        )
    return samples


def parent_s_per_question(requests: Sequence[Request], tokenizer: Any) -> float:
    """Returns the processor time in which a run's parent process makes a request of a question.

    That is: the question's text in its conversation, as token ids; reading files, dealing and
    storing are no part of it.
    """
    renderer = PromptRenderer(template="vicuna_v1", tokenizer=tokenizer)
    samples = as_samples(requests, tokenizer)
    started = time.process_time()
    for sample, request in zip(samples, requests, strict=True):
        renderer.build_request(sample, request.generation)
    return (time.process_time() - started) / len(samples)


def _shape(
    name: str, num_images: int, rng: np.random.Generator, questions: Path | None
) -> tuple[list[int], tuple[int, ...], int]:
    """Questions of each image, deciles of the suffix lengths, new tokens of an answer."""
    if name == "gqa" and questions is not None:
        sizes = _real_sizes(questions)
        return [int(rng.choice(sizes)) for _ in range(num_images)], _SHORT_DECILES, 3
    if name == "gqa":
        return [_draw(rng, _GQA_DECILES) for _ in range(num_images)], _SHORT_DECILES, 3
    if name == "vqav2":
        return [5 + (i % 3 == 0) for i in range(num_images)], _SHORT_DECILES, 3  # 5.3 an image
    if name == "scienceqa":
        return [1] * num_images, _SCIENCE_DECILES, 2
    return [2] * num_images, _SHORT_DECILES, 200


def _real_sizes(questions: Path) -> list[int]:
    opener: Any = gzip.open if questions.suffix == ".gz" else open
    with opener(questions, "rt", encoding="utf-8") as file:
        return list(Counter(json.loads(line)["image"] for line in file if line.strip()).values())


def _draw(rng: np.random.Generator, deciles: tuple[int, ...]) -> int:
    """A length between the deciles of a distribution."""
    return round(float(np.interp(rng.random(), np.linspace(0, 1, len(deciles)), deciles)))
