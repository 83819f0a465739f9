"""Sampling that depends on the question and not on what is computed beside it."""

from __future__ import annotations

import hashlib

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
        self.seed = generation.seed
        self.step = 0
        self.warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(generation.temperature)]
        if generation.top_p is not None and generation.top_p < 1:
            self.warpers.append(TopPLogitsWarper(generation.top_p))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns (1, V) float32 scores whose largest is the sampled token; scores: (1, V)."""
        scores = scores.float()
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        noise = gumbel_noise(self.seed, self.key, self.step, scores.shape[-1])
        self.step += 1
        return scores + noise.to(scores.device)


def gumbel_noise(seed: int, key: str, step: int, size: int) -> torch.Tensor:
    """Returns (size,) float32 of standard Gumbel noise that (seed, key, step) alone decides."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16))).float()
