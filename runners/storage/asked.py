"""Which questions of a split a run asks: all, the first ones, or one of several parts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evals.records import Sample
from runners.options.shard import Shard
from runners.storage.summary import Origin

_CHARACTERS_PER_TOKEN = 4
_TOKENS_AROUND_TEXT = 50  # template and answer
TOKENS_OF_AN_IMAGE = 576
"""Of the usual model, for whatever must not depend on the one at hand, such as a shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known of the questions that stored answers are of.

    Attributes:
        num_questions: How many there are, as far as the benchmark's files tell.
        prompts_hash: Of all question texts of the split; `unknown` where they are not those of the
            answers, None where nothing was recorded.
        origin: What the summary says of the answers.
    """

    num_questions: int
    prompts_hash: str | None
    origin: Origin


def asked_samples(
    samples: Sequence[Sample], limit: int | None, shard: Shard | None
) -> list[Sample]:
    """Returns the questions that a run asks, in the benchmark's order.

    Args:
        samples: All questions of the split.
        limit: How many of them the whole run asks; None for all.
        shard: Which part of the whole run it is; None for all of it.
    """
    asked = list(samples[:limit])
    return asked if shard is None else shard_samples(asked, shard.index, shard.count)


def shard_samples(samples: Sequence[Sample], index: int, count: int) -> list[Sample]:
    """Returns one part of the questions, in their order; each question is in one part.

    Questions about equal images stay together. The parts are of about equal cost, and depend on
    nothing but the questions.

    Args:
        samples: All questions that the whole run asks.
        index: Which part, from 1.
        count: How many parts there are.
    """
    groups = group_by_images(samples)
    sizes = [estimate_tokens(group, TOKENS_OF_AN_IMAGE) for group in groups]
    # a part beyond the groups gets none, however many parts somebody's manifest speaks of
    loads = [(0, part) for part in range(1, min(count, len(groups)) + 1)]
    keys: set[str] = set()
    for place in sorted(range(len(groups)), key=lambda place: -sizes[place]):
        load, part = loads[0]
        heapq.heapreplace(loads, (load + sizes[place], part))
        if part == index:
            keys.update(sample.key for sample in groups[place])
    return [sample for sample in samples if sample.key in keys]


def group_by_images(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Returns the questions in groups of equal images, in order of first appearance.

    A question without images is a group of its own.
    """
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        keys = sample.image_keys or ("", sample.key)  # no image has an empty key
        groups.setdefault(keys, []).append(sample)
    return list(groups.values())


def estimate_tokens(group: list[Sample], num_image_tokens: int) -> int:
    """Returns about how many tokens a group costs if its images are read once."""
    texts = sum(len(sample.text) // _CHARACTERS_PER_TOKEN + _TOKENS_AROUND_TEXT for sample in group)
    return len(group[0].images) * num_image_tokens + texts
