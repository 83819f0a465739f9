"""Sampling that depends on the question and not on what is computed beside it."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch.nn.functional import pad
from transformers import LogitsProcessor

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

    Each question has a row, which stays as it is where its sampling is None. The second largest
    lies as far below as logits may at least move before another token is drawn. The noise is the
    same on every device, so it is made on the CPU; it goes to the device as one.

    Raises:
        ValueError: there are more or fewer rows than samplings.
    """
    if len(samplings) != len(scores):
        raise ValueError(
            f"`samplings` must be one for each of {len(scores)} rows, but are {len(samplings)}. "
            "Give None for a row that is not sampled."
        )
    scores = scores.float()
    if not any(samplings):
        return scores
    noise = torch.zeros(scores.shape, pin_memory=scores.is_cuda)
    places: defaultdict[tuple[float, float | None], list[int]] = defaultdict(list)
    for place, sampling in enumerate(samplings):
        if sampling is not None:
            noise[place] = sampling.next_noise(scores.shape[1])
            places[sampling.generation.temperature, sampling.generation.top_p].append(place)
    noise = noise.to(scores.device, non_blocking=True)
    drawn = scores.clone()
    for (temperature, top_p), group in places.items():
        # usually all; to name some of them takes a transfer of its own
        rows = (
            slice(None) if len(group) == len(samplings) else torch.tensor(group).to(scores.device)
        )
        logits = scores[rows] / temperature
        drawn[rows] = logits + noise[rows]
        if top_p not in (None, 1):
            drawn[rows] = _in_nucleus(logits, drawn[rows], top_p)
    return drawn


def _in_nucleus(logits: torch.Tensor, drawn: torch.Tensor, top_p: float) -> torch.Tensor:
    """(N, V): logits with noise, where no token outside of the nucleus is the largest.

    These lie as far below it as logits would have to move for them to come in and win, or for the
    largest to fall out. Where logits move by D at most, apart from what moves all of them, so do
    their order and the log-odds of the mass of any tokens.
    """
    ordered, order = logits.sort()
    drawn = drawn.gather(-1, order)
    mass = ordered.softmax(-1).cumsum(-1).clamp(max=1)  # of each and of all that are less probable
    mass[:, -1] = 1
    is_out = mass <= 1 - top_p
    inside = mass.logit() - math.log((1 - top_p) / top_p)
    # A token comes in or falls out where it gets level with some other one and the edge gets there:
    # the larger of both distances counts, which is least where they are about the same.
    other = torch.searchsorted(ordered + inside, ordered).clamp(max=ordered.shape[-1] - 1)
    below = [pad(each[:, :-1], (1, 0), value=-math.inf) for each in (ordered, inside)]
    low, least, high, most = (each.gather(-1, other) for each in (*below, ordered, inside))
    inside = torch.where(is_out, least.maximum(ordered - high), most.minimum(ordered - low))
    best, winner = drawn.masked_fill(is_out, -math.inf).max(-1, keepdim=True)
    outside = drawn.fmin(best + inside).maximum(best - inside.gather(-1, winner))
    outside = outside.minimum(best.nextafter(torch.full_like(best, -math.inf)))
    return torch.empty_like(drawn).scatter(-1, order, torch.where(is_out, outside, drawn))


def gumbel_noise(seed: int, key: str, step: int, size: int) -> torch.Tensor:
    """Returns (size,) float32 of standard Gumbel noise that (seed, key, step) alone decides."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16))).float()
