"""Sampling that depends on the question and not on what is computed beside it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from llava.generation.request import GenerationConfig


class SeededSampling(LogitsProcessor):
    """Turns the largest logit into a sample: temperature, nucleus, then Gumbel noise.

    The largest of logits with independent Gumbel noise is distributed as their softmax, and the
    noise comes from (seed, key, step) alone. So a greedy search over these scores draws the same
    answer whatever else is in the batch.

    Args:
        key: The request's key.
        generation: Temperature above 0, nucleus and seed.
    """

    def __init__(self, key: str, generation: GenerationConfig) -> None:
        self.key = key
        self.generation = generation
        self.step = 0

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns (1, V) float32 scores whose largest is the sampled token; scores: (1, V)."""
        return sampled(scores, [self])

    def next_noise(self, size: int) -> torch.Tensor:
        """Returns (size,) float32 of noise on the CPU, for the next step."""
        noise = gumbel_noise(self.generation.seed, self.key, self.step, size)
        self.step += 1
        return noise


def sampled(scores: torch.Tensor, samplings: Sequence[SeededSampling | None]) -> torch.Tensor:
    """Returns (N, V) float32 scores whose largest are the sampled tokens; scores: (N, V).

    Each question has a row, which stays as it is where its sampling is None. The noise is the same
    on every device, so it is made on the CPU; it goes to the device as one.

    Raises:
        ValueError: there are more or fewer rows than samplings.
    """
    if len(samplings) != len(scores):
        raise ValueError(
            f"`samplings` must be one for each of {len(scores)} rows, but are {len(samplings)}. "
            "Give None for a row that is not sampled."
        )
    scores = scores.float()
    places: defaultdict[tuple[float, float | None], list[int]] = defaultdict(list)
    for place, sampling in enumerate(samplings):
        if sampling is not None:
            places[sampling.generation.temperature, sampling.generation.top_p].append(place)
    if not places:
        return scores
    warped = scores.clone()
    noise = torch.zeros(scores.shape, pin_memory=scores.is_cuda)
    for (temperature, top_p), group in places.items():
        # usually all; to name some of them takes a transfer of its own
        rows = (
            slice(None) if len(group) == len(samplings) else torch.tensor(group).to(scores.device)
        )
        warped[rows] = _warp(scores[rows], temperature, top_p)
    for place, sampling in enumerate(samplings):
        if sampling is not None:
            noise[place] = sampling.next_noise(scores.shape[1])
    return warped.add_(noise.to(scores.device, non_blocking=True))


def _warp(scores: torch.Tensor, temperature: float, top_p: float | None) -> torch.Tensor:
    """(N, V): logits at a temperature, what is outside of the nucleus ruled out."""
    nothing: Any = None  # these two look at the scores only
    scores = TemperatureLogitsWarper(temperature)(nothing, scores)
    return scores if top_p in (None, 1) else TopPLogitsWarper(top_p)(nothing, scores)


def gumbel_noise(seed: int, key: str, step: int, size: int) -> torch.Tensor:
    """Returns (size,) float32 of standard Gumbel noise that (seed, key, step) alone decides."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16))).float()
