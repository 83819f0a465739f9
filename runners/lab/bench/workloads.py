"""Questions of a benchmark's shape: how many an image, how long, how long the answers.

Group sizes and lengths follow the real files, in tokens of the LLaMA tokenizer: GQA testdev
(12,578 questions on 398 images), VQAv2 (5.3 an image), ScienceQA test (2,017 questions with an
image). Token ids and images are random.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.request import GenerationConfig, Request

PREFIX_TOKENS = 35
"""Tokens of the vicuna_v1 template in front of the image."""

_FIRST_ID = 3  # behind <unk>, <s> and </s>

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
    name: str, num_images: int, vocab_size: int, seed: int, questions: Path | None = None
) -> list[Request]:
    """Returns the requests of `gqa`, `vqav2`, `scienceqa` or `generate` (200 new tokens).

    Prompts are random ids below `vocab_size`; `seed` is that of ids and lengths. `questions` is
    LLaVA's GQA question file, whose groups are taken instead of the built-in ones.

    Raises:
        ValueError: the name is unknown.
    """
    rng = np.random.default_rng(seed)
    sizes, deciles, new_tokens = _shape(name, num_images, rng, questions)
    template = _ids(rng, PREFIX_TOKENS, vocab_size)  # the same for all, as a system prompt is
    requests = []
    for image, size in enumerate(sizes):
        source = NoiseImage(f"{name}-{image}")
        for number in range(size):
            suffix = _ids(rng, _draw(rng, deciles), vocab_size)
            request = Request(
                key=f"{image}-{number}",
                prompt_ids=np.concatenate([template, [IMAGE_TOKEN_INDEX], suffix]).astype(np.int32),
                images=(source,),
                generation=GenerationConfig(max_new_tokens=new_tokens),
            )
            requests.append(request)
    return requests


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
    if name == "generate":
        return [1] * num_images, _SHORT_DECILES, 200
    raise ValueError(
        f"`workload` must be gqa, vqav2, scienceqa or generate, but is {name!r}. Choose one."
    )


def _real_sizes(questions: Path) -> list[int]:
    opener: Any = gzip.open if questions.suffix == ".gz" else open
    with opener(questions, "rt", encoding="utf-8") as file:
        return list(Counter(json.loads(line)["image"] for line in file if line.strip()).values())


def _draw(rng: np.random.Generator, deciles: tuple[int, ...]) -> int:
    """A length between the deciles of a distribution."""
    return round(float(np.interp(rng.random(), np.linspace(0, 1, len(deciles)), deciles)))


def _ids(rng: np.random.Generator, count: int, vocab_size: int) -> np.ndarray[Any, Any]:
    return rng.integers(_FIRST_ID, vocab_size, count)
